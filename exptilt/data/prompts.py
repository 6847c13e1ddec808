"""The prompt sources: demo, Anthropic-harmless, Imdb, a local file, a Hub data set."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt import demo
from exptilt.conversation import as_dicts, text_of
from exptilt.data import conversations, files
from exptilt.data.conversations import Asked, Unusable
from exptilt.errors import ConfigError, PromptError
from exptilt.storage import filesystem, keys, schemas

HARMLESS: Final = "Anthropic-harmless"
IMDB: Final = "Imdb"
SUPPORTED: Final = (
    "demo, Anthropic-harmless, Imdb, a .json, .jsonl, .csv, .parquet or .txt file (also on s3://), "
    "or a Hub data set as org/name or org/name:split"
)
HUB_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")
IMDB_REVIEWS: Final = 1000
IMDB_SHORTEST, IMDB_LONGEST = 20, 30
Row = tuple[int, Asked]  # a prompt's index in its source, and the prompt


def check_name(data: str) -> None:
    """Raise ConfigError (a ValueError) unless `data` names a supported prompt source."""
    if data in ("demo", HARMLESS, IMDB):
        return
    if files.is_file(data):
        if filesystem.is_local(data) and not Path(data).is_file():
            raise ConfigError(f"--data {data}: there is no such file")
    elif not HUB_NAME.fullmatch(data):
        raise ConfigError(f"unknown data {data!r}: supported are {SUPPORTED}")


def short_name(data: str) -> str:
    """The data's name as it stands in file names."""
    return Path(data).stem if files.is_file(data) else re.split(r"[/:]", data)[1 if "/" in data else 0]


def tables(
    data: str, column: str, system: str = "", in_chat: bool = False, unusable: dict[int, str] | None = None
) -> Iterator[pl.DataFrame]:
    """The prompts of `data` in the source's order, some thousands to a table.

    Args:
        data: as --data names it.
        column: the column of the prompts; where there is none called "prompt", that of conversations.
        system: a system turn for every prompt.
        in_chat: whether transcripts that lack a last answer are conversations, too.
        unusable: where given, rows that are no prompt are left out and entered here: why, by index.

    Raises ConfigError where the source cannot be read or holds none, PromptError that names a bad prompt.
    """
    rows = _usable(data, column, system, in_chat, unusable)
    blocks = iter(lambda: list(islice(rows, keys.BLOCK)), [])
    none = True
    for block, names in keys.with_ids(blocks, lambda row: row[1].prompt):
        none = False
        yield _table(names, block, short_name(data))
    if none:
        why = f"every prompt is left out: {by_kind(unusable.values())}" if unusable else "it holds no prompts"
        raise ConfigError(f"--data {data}: {why}")


def by_kind(kinds: Iterable[str]) -> str:
    """How many there are of each kind, the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(kinds).most_common())


def _usable(
    data: str, column: str, system: str, in_chat: bool, unusable: dict[int, str] | None
) -> Iterator[Row]:
    """The prompts with their indices; all are texts, or all conversations, as the first one is."""
    first: Row | None = None
    for index, value in enumerate(_values(data, column)):
        try:
            asked = conversations.asked(value, system, in_chat or _is_conversation(first))
            first = first or (index, asked)
            _check_alike(asked, first)
        except Unusable as error:
            if unusable is None:
                raise PromptError(f"--data {data}: prompt {index} {error}") from None
            unusable[index] = error.kind
            continue
        yield index, asked


def _is_conversation(row: Row | None) -> bool:
    return row is not None and not isinstance(row[1].prompt, str)


def _check_alike(asked: Asked, first: Row) -> None:
    kinds = ["a text" if isinstance(each.prompt, str) else "a conversation" for each in (asked, first[1])]
    if kinds[0] != kinds[1]:
        raise Unusable(f"{kinds[0]} among others", f"is {kinds[0]}, but prompt {first[0]} is {kinds[1]}")


def _table(names: list[str], rows: Sequence[Row], source: str) -> pl.DataFrame:
    prompts = [asked.prompt for _, asked in rows]
    messages = [None if isinstance(prompt, str) else as_dicts(prompt) for prompt in prompts]
    table = pl.select(
        prompt_id=pl.Series(names),
        prompt_index=pl.Series([index for index, _ in rows]),
        prompt=pl.Series([text_of(prompt) for prompt in prompts]),
        source=pl.lit(source),
        messages=pl.Series(messages, dtype=schemas.MESSAGES),
        reference=pl.Series([asked.reference for _, asked in rows], dtype=pl.String),
    )
    return schemas.validate("prompts", table.cast(schemas.PROMPTS))


def _values(data: str, column: str) -> Iterator[Any]:
    if data == "demo":
        return iter(demo.PROMPTS.read_text(encoding="utf-8").splitlines())
    if data == HARMLESS:
        return _harmless()
    if data == IMDB:
        return _imdb()
    return files.values(data, column) if files.is_file(data) else _from_hub(data, column)


def _hub(name: str, **options: Any) -> Any:
    """datasets.load_dataset, its many failures said in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"data set {name!r} was not found on the Hub or as a folder ({reason}); "
            "a downloaded file works too: --data FILE.jsonl --prompt-column NAME"
        ) from error


def _from_hub(data: str, column: str) -> Iterator[Any]:
    name, _, split = data.partition(":")
    table = _hub(name, split=split or "train")
    try:
        chosen = files.find_column(table.column_names, column)
    except ConfigError as error:
        raise ConfigError(f"--data {data}: {error}") from error
    return iter(table[chosen])


def _harmless() -> Iterator[Any]:
    """What stands between the first "Human: " and the first "Assistant:" of each `chosen`."""
    for row in _hub("Anthropic/hh-rlhf", data_dir="harmless-base", split="test"):
        after = row["chosen"].partition("Human: ")[2]
        yield after.partition("Assistant:")[0].strip()


def _imdb() -> Iterator[Any]:
    """The first 1,000 reviews of over 30 characters, each cut at a word within 20 to 30 characters."""
    lengths = np.random.default_rng(0).integers(IMDB_SHORTEST, IMDB_LONGEST, size=IMDB_REVIEWS, endpoint=True)
    reviews = _hub("stanfordnlp/imdb", split="train")["text"]
    long_enough = (review for review in reviews if len(review) > IMDB_LONGEST)
    for review, length in zip(long_enough, lengths, strict=False):
        yield _cut_at_word(review, int(length))


def _cut_at_word(text: str, length: int) -> str:
    cut = text[: length + 1].rpartition(" ")[0]
    return cut or text[:length]
