"""The prompt sources: demo, Anthropic-harmless, Imdb, files, a Hub data set."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from exptilt import demo
from exptilt.conversation import as_dicts, text_of
from exptilt.data import beside, conversations, file_names, file_sets, hub, prompt_files
from exptilt.data.beside import Names
from exptilt.data.columns import Value
from exptilt.data.conversations import Asked, Unusable
from exptilt.errors import ConfigError, PromptError
from exptilt.storage import keys, schemas
from exptilt.wording import by_kind

HARMLESS: Final = "Anthropic-harmless"
IMDB: Final = "Imdb"
SUPPORTED: Final = (
    "demo, Anthropic-harmless, Imdb, a .json, .jsonl, .csv, .txt (all also as .gz or .zst) or .parquet file, "
    "several with commas, a pattern or a folder (all also on s3://), or a Hub data set as org/name or "
    "org/name:split"
)
IMDB_REVIEWS: Final = 1000
IMDB_SHORTEST, IMDB_LONGEST = 20, 30


class Row(NamedTuple):
    """A prompt, its place among all rows, and the file and row that it comes from."""

    number: int
    asked: Asked
    place: str


def check_name(data: str) -> None:
    """Raise ConfigError (a ValueError) unless `data` names a supported prompt source."""
    if data in BUILT_IN or _is_hub(data):
        return
    if "\0" in data or not _is_files(data):
        raise ConfigError(f"unknown data {data!r}: supported are {SUPPORTED}")
    file_sets.check_local(data)


def _is_hub(data: str) -> bool:
    is_name = file_names.HUB_NAME.fullmatch(data) and not file_names.ending(data)
    return bool(is_name) and not file_names.is_there(data)


def _is_files(data: str) -> bool:
    return file_names.is_there(data) or file_names.is_spelled(data)


def short_name(data: str) -> str:
    """The data's name as it stands in file names."""
    if data not in BUILT_IN and _is_files(data) and not _is_hub(data):
        return file_names.short_name(data)
    return re.split(r"[/:]", data)[1 if "/" in data else 0]


def tables(
    data: str, column: str, system: str = "", in_chat: bool = False, unusable: dict[int, str] | None = None
) -> Iterator[pl.DataFrame]:
    """The prompts of `data`, see `values` and `tables_of`."""
    return tables_of(values(data, column), data, system, in_chat, unusable)


def tables_of(
    given: Iterable[Value],
    data: str,
    system: str = "",
    in_chat: bool = False,
    unusable: dict[int, str] | None = None,
    names: Names = lambda: None,
) -> Iterator[pl.DataFrame]:
    """The prompts of `data` in the source's order, some thousands to a table.

    Args:
        given: the rows of `data`.
        data: as --data names it.
        system: a system turn for every prompt.
        in_chat: whether texts go through the chat template; transcripts that lack a last answer are
            conversations then, too.
        unusable: where given, rows that are no prompt are left out and entered here: why, by index.
        names: what the chat template reads.

    Raises ConfigError where the source holds no prompt, PromptError that names a bad one.
    """
    rows = _usable(given, data, system, in_chat, unusable, names)
    blocks = iter(lambda: list(islice(rows, keys.BLOCK)), [])
    none = True
    for block, ids in keys.with_ids(blocks, lambda row: row.asked.prompt):
        none = False
        yield _table(ids, block, short_name(data))
    if none:
        why = f"every prompt is left out: {by_kind(unusable.values())}" if unusable else "it holds no prompts"
        raise ConfigError(f"--data {data}: {why}")


def _usable(
    given: Iterable[Value],
    data: str,
    system: str,
    in_chat: bool,
    unusable: dict[int, str] | None,
    names: Names,
) -> Iterator[Row]:
    """The prompts with their indices; all are texts, or all conversations, as the first one is."""
    first: Row | None = None
    for index, value in enumerate(given):
        try:
            asked = conversations.asked(value.value, system, in_chat or _is_conversation(first))
            row = Row(index, asked, value.place)
            first = first or row
            _check_alike(row, first)
            if in_chat or _is_conversation(row):
                beside.check(value.beside, asked.prompt, names)
        except Unusable as error:
            if unusable is None:
                where = f" ({value.place})" if value.place else ""
                raise PromptError(f"--data {data}: prompt {index}{where} {error}") from None
            unusable[index] = error.kind
            continue
        yield row


def _is_conversation(row: Row | None) -> bool:
    return row is not None and not isinstance(row.asked.prompt, str)


def _check_alike(row: Row, first: Row) -> None:
    kinds = ["a conversation" if _is_conversation(each) else "a text" for each in (row, first)]
    if kinds[0] != kinds[1]:
        raise Unusable(f"{kinds[0]} among others", f"is {kinds[0]}, but prompt {first.number} is {kinds[1]}")


def _table(names: list[str], rows: Sequence[Row], source: str) -> pl.DataFrame:
    prompts = [row.asked.prompt for row in rows]
    messages = [None if isinstance(prompt, str) else as_dicts(prompt) for prompt in prompts]
    table = pl.select(
        prompt_id=pl.Series(names),
        prompt_index=pl.Series([row.number for row in rows]),
        prompt=pl.Series([text_of(prompt) for prompt in prompts]),
        source=pl.Series([row.place or source for row in rows]),
        messages=pl.Series(messages, dtype=schemas.MESSAGES),
        reference=pl.Series([row.asked.reference for row in rows], dtype=pl.String),
    )
    return schemas.validate("prompts", table.cast(schemas.PROMPTS))


def values(data: str, column: str) -> Iterator[Value]:
    """The rows of `data` in the source's order.

    Args:
        data: as --data names it.
        column: the column of the prompts; where there is none called "prompt", that of conversations.

    Raises ConfigError where the source cannot be read.
    """
    if data in BUILT_IN:
        return map(Value, BUILT_IN[data]())
    return hub.values(data, column) if _is_hub(data) else prompt_files.values(data, column)


def _demo() -> Iterator[str]:
    return iter(demo.PROMPTS.read_text(encoding="utf-8").splitlines())


def _harmless() -> Iterator[str]:
    """What stands between the first "Human: " and the first "Assistant:" of each `chosen`."""
    for row in hub.load("Anthropic/hh-rlhf", data_dir="harmless-base", split="test"):
        after = row["chosen"].partition("Human: ")[2]
        yield after.partition("Assistant:")[0].strip()


def _imdb() -> Iterator[str]:
    """The first 1,000 reviews of over 30 characters, each cut at a word within 20 to 30 characters."""
    lengths = np.random.default_rng(0).integers(IMDB_SHORTEST, IMDB_LONGEST, size=IMDB_REVIEWS, endpoint=True)
    reviews = hub.load("stanfordnlp/imdb", split="train")["text"]
    long_enough = (review for review in reviews if len(review) > IMDB_LONGEST)
    for review, length in zip(long_enough, lengths, strict=False):
        yield _cut_at_word(review, int(length))


def _cut_at_word(text: str, length: int) -> str:
    cut = text[: length + 1].rpartition(" ")[0]
    return cut or text[:length]


BUILT_IN: Final[dict[str, Callable[[], Iterator[str]]]] = {"demo": _demo, HARMLESS: _harmless, IMDB: _imdb}
