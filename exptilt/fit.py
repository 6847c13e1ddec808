"""Prompts against the base model's context: the too long ones are refused, left out or cut, as asked."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt import ids
from exptilt.engines.base import P0
from exptilt.errors import ConfigError, ModelError, PromptError
from exptilt.models import TOY


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Prompts that fit, and the indices of those that were left out or cut."""

    table: pl.DataFrame
    skipped: list[int]
    truncated: list[int]


def fit(table: pl.DataFrame, p0: P0, policy: Literal["error", "skip", "truncate"]) -> Fitted:
    """The prompts that leave room for max_new_tokens in the context of p0's model.

    Raises PromptError that names the first too long prompt where the policy is "error", and for a
    prompt that has no tokens; ModelError where no prompt could ever fit. A server's prompts are not
    measured: it refuses a long one itself, and other policies are a ConfigError.
    """
    if p0.model.is_served and policy != "error":
        raise ConfigError(f"--on-long-prompt {policy}: only the server can say how long a prompt is")
    room = _room(p0)
    if room is None:
        return Fitted(table=table, skipped=[], truncated=[])
    lengths = _lengths(p0, table)
    _refuse_empty(table, lengths)
    long = np.flatnonzero(lengths > room).tolist()
    if policy == "error" and long:
        raise PromptError(_too_long(table, long, int(lengths[long[0]]), room, p0))
    return _skip(table, long) if policy == "skip" else _truncate(table, long, p0, room)


def _lengths(p0: P0, table: pl.DataFrame) -> NDArray[np.int64]:
    """How many tokens each prompt has; a block of them is held at a time."""
    blocks = table.iter_slices(ids.BLOCK)
    found = (len(row) for block in blocks for row in _tokens(p0, block["prompt"].to_list()))
    return np.fromiter(found, dtype=np.int64, count=table.height)


def _tokens(p0: P0, texts: list[str]) -> list[list[int]]:
    """The tokens that p0's model would see of each prompt."""
    from exptilt.engines.chat import rendered
    from exptilt.engines.checkpoint import encode, load_tokenizer

    tokenizer = load_tokenizer(p0.model)
    seen = rendered(tokenizer, texts) if p0.chat else texts
    return encode(tokenizer, seen, special=not p0.chat)


def _room(p0: P0) -> int | None:
    """Tokens that a prompt may have, or None without a limit."""
    if p0.model.source == TOY or p0.model.is_served:
        return None
    from exptilt.engines.checkpoint import context_length

    length = context_length(p0.model)
    if length is None:
        return None
    if length <= p0.max_new_tokens:
        raise ModelError(
            f"--max-new-tokens {p0.max_new_tokens} leaves no room for a prompt: "
            f"{p0.model.name} takes {length} tokens"
        )
    return length - p0.max_new_tokens


def _refuse_empty(table: pl.DataFrame, lengths: NDArray[np.int64]) -> None:
    if not lengths.all():
        raise PromptError(f"prompt {table['prompt_index'][int(lengths.argmin())]} has no tokens")


def _too_long(table: pl.DataFrame, long: list[int], tokens: int, room: int, p0: P0) -> str:
    index = table["prompt_index"][long[0]]
    return (
        f"prompt {index} has {tokens} tokens, {p0.model.name} has room for {room} beside "
        f"{p0.max_new_tokens} new ones; {len(long)} such in all: "
        "use --on-long-prompt skip or truncate"
    )


def _skip(table: pl.DataFrame, long: list[int]) -> Fitted:
    indices = table["prompt_index"][long].to_list()
    kept = table.filter(~pl.col("prompt_index").is_in(indices))
    if kept.is_empty():
        raise PromptError("every prompt is too long for the model: none is left to run")
    return Fitted(table=kept, skipped=indices, truncated=[])


def _truncate(table: pl.DataFrame, long: list[int], p0: P0, room: int) -> Fitted:
    """Cut from the front, so that the text's end, which the completion continues, stays."""
    texts = table["prompt"].to_list()
    for i in long:
        texts[i] = _tail(p0, texts[i], room)
        if not texts[i]:
            raise PromptError(f"prompt {table['prompt_index'][i]} fits into {p0.model.name} by no part of it")
    cut = table.with_columns(prompt=pl.Series(texts), prompt_id=ids.prompt_ids(texts))
    return Fitted(table=cut, skipped=[], truncated=table["prompt_index"][long].to_list())


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
