"""Prompts against the base model's context: the too long ones are refused, left out or cut, as asked."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.conversation import Prompt, prompt_of, text_of
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ConfigError, ModelError, PromptError, PromptRefused
from exptilt.models.reference import ModelRef
from exptilt.storage import keys
from exptilt.storage.findings import found
from exptilt.wording import counted

TOO_LONG: Final = "too long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Prompts that can be drawn from; why others were left out, by index; and the indices of those cut."""

    table: pl.DataFrame
    skipped: dict[int, str]
    truncated: list[int]


def fit(
    tables: Iterable[pl.DataFrame], p0: P0, policy: Literal["error", "skip", "truncate"]
) -> Iterator[Fitted]:
    """The prompts that leave room for max_new_tokens in the context of p0's model, table by table.

    Args:
        tables: of prompts.
        p0: its tokenizer, context length and max_new_tokens count.
        policy: what happens to longer ones. A server's prompts are not measured: it refuses long ones.

    Raises:
        PromptError: for a prompt that has no tokens or that the chat template refuses; at the end for too
            long ones, the first named and all counted, where the policy is "error" or none is left.
        ModelError: where no prompt could ever fit.
        ConfigError: for a server with another policy than "error".
    """
    if not registry.capabilities(p0.model).measures_prompts and policy != "error":
        raise ConfigError(f"--on-long-prompt {policy}: only the server can say how long a prompt is")
    room = _room(p0)
    if room is None:
        yield from (Fitted(table=table, skipped={}, truncated=[]) for table in tables)
        return
    too_long, kept = dict[int, int](), 0
    for given in tables:
        fitted, lengths = _fitted(given, p0, room, policy)
        too_long |= lengths
        kept += fitted.table.height
        yield fitted
    if too_long:
        raise PromptError(_too_long(too_long, room, p0))
    if not kept:
        raise PromptError("every prompt is too long for the model, or refused by its template: none is left")


def _fitted(given: pl.DataFrame, p0: P0, room: int, policy: str) -> tuple[Fitted, dict[int, int]]:
    """The prompts of a table that can be drawn from; and the tokens of those whose length is an error, by
    index."""
    table, refused = _templated(given, p0, policy)
    measure = cache(partial(_lengths, p0, table))
    if _fits(p0, table, room, measure):
        return Fitted(table=table, skipped={}, truncated=[]), {}
    lengths = measure()
    fitted = _cut(table, lengths, p0, room) if policy == "truncate" else _without(table, lengths, room)
    long = zip(fitted.skipped, lengths[lengths > room].tolist(), strict=True)
    return replace(fitted, skipped={**refused, **fitted.skipped}), dict(long if policy == "error" else ())


def _fits(p0: P0, table: pl.DataFrame, room: int, measure: Callable[[], NDArray[np.int64]]) -> bool:
    """Whether there is room for all prompts of a table, whose lengths `measure` gives; False for
    conversations, whose template may hold the date."""
    if p0.chat:
        return False
    of = [p0.model.identity, room, table["prompt"].to_list()]
    return found("fits", of, lambda: bool(measure().max() <= room))


def _templated(table: pl.DataFrame, p0: P0, policy: str) -> tuple[pl.DataFrame, dict[int, str]]:
    """The prompts that p0's chat template takes, and why not the others: an error unless skipped."""
    if not p0.chat:
        return table, {}
    refused: dict[int, str] = {}
    for row in table.to_dicts():
        try:
            _tokens(p0, [prompt_of(row)])
        except PromptRefused as error:
            if policy != "skip":
                raise PromptError(
                    f"prompt {row['prompt_index']} ({row['prompt'][:60]!r}): {error}"
                ) from error
            refused[row["prompt_index"]] = "refused by the chat template"
    return table.filter(~pl.col("prompt_index").is_in(list(refused))), refused


def _lengths(p0: P0, table: pl.DataFrame) -> NDArray[np.int64]:
    """How many tokens each prompt has; PromptError for one without."""
    prompts = [prompt_of(row) for row in table.to_dicts()]
    lengths = np.array([len(row) for row in _tokens(p0, prompts)], dtype=np.int64)
    if not lengths.all():
        raise PromptError(f"prompt {table['prompt_index'][int(lengths.argmin())]} has no tokens")
    return lengths


def _tokens(p0: P0, prompts: list[Prompt]) -> list[list[int]]:
    """The tokens that p0's model would see of each prompt."""
    from exptilt.models.chat_template import rendered
    from exptilt.models.loading import load_tokenizer
    from exptilt.models.tokenization import encode

    tokenizer = load_tokenizer(p0.model)
    seen = rendered(tokenizer, prompts, p0.template) if p0.chat else [text_of(prompt) for prompt in prompts]
    return encode(tokenizer, seen, special=not p0.chat)


def _room(p0: P0) -> int | None:
    """Tokens that a prompt may have, or None without a limit."""
    if not registry.capabilities(p0.model).has_checkpoint:
        return None
    length = found("context length", p0.model.identity, lambda: _context_length(p0.model))
    if length is None:
        return None
    if length <= p0.max_new_tokens:
        raise ModelError(
            f"--max-new-tokens {p0.max_new_tokens} leaves no room for a prompt: "
            f"{p0.model.name} takes {counted(length, 'token')}"
        )
    return length - p0.max_new_tokens


def _context_length(model: ModelRef) -> int | None:
    from exptilt.models.loading import context_length

    return context_length(model)


def _too_long(refused: dict[int, int], room: int, p0: P0) -> str:
    index, tokens = next(iter(refused.items()))
    return (
        f"prompt {index} has {counted(tokens, 'token')}, {p0.model.name} has room for {room} beside "
        f"{counted(p0.max_new_tokens, 'new one')}; {len(refused)} such in all: "
        "use --on-long-prompt skip or truncate"
    )


def _without(table: pl.DataFrame, lengths: NDArray[np.int64], room: int) -> Fitted:
    long = pl.Series(lengths > room)
    return Fitted(
        table=table.filter(~long),
        skipped=dict.fromkeys(table["prompt_index"].filter(long).to_list(), TOO_LONG),
        truncated=[],
    )


def _cut(table: pl.DataFrame, lengths: NDArray[np.int64], p0: P0, room: int) -> Fitted:
    """Cut from the front, so that the text's end, which the completion continues, stays."""
    texts, names = table["prompt"].to_list(), table["prompt_id"].to_list()
    long = np.flatnonzero(lengths > room).tolist()
    for i in long:
        if table["messages"][i] is not None:
            raise PromptError(
                f"prompt {table['prompt_index'][i]} is a conversation, which --on-long-prompt truncate does "
                "not cut: use skip"
            )
        texts[i] = _tail(p0, texts[i], room)
        names[i] = keys.content_key([texts[i], names[i]])
        if not texts[i]:
            raise PromptError(f"prompt {table['prompt_index'][i]} fits into {p0.model.name} by no part of it")
    cut = table.with_columns(prompt=pl.Series(texts), prompt_id=pl.Series(names))
    return Fitted(table=cut, skipped={}, truncated=table["prompt_index"][long].to_list())


def _tail(p0: P0, text: str, room: int) -> str:
    """The longest end of `text` (by characters, halving) that has at most `room` tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if len(_tokens(p0, [text[middle:]])[0]) <= room:
            high = middle
        else:
            low = middle + 1
    return text[low:]
