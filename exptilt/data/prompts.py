"""The prompt sources: demo, Anthropic-harmless, Imdb, a local file, a Hub data set."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt import demo
from exptilt.data import files, parsing
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


def tables(data: str, column: str) -> Iterator[pl.DataFrame]:
    """The prompts of `data` in the source's order, some thousands to a table.

    Raises ConfigError where the source cannot be read, PromptError that names a bad prompt.
    """
    texts = (_checked(text, index, data) for index, text in enumerate(_texts(data, column)))
    blocks = iter(lambda: list(islice(texts, keys.BLOCK)), [])
    first = 0
    for block, names in keys.with_ids(blocks):
        yield _table(names, first, block, short_name(data))
        first += len(block)
    if not first:
        raise ConfigError(f"--data {data}: it holds no prompts")


def _table(names: list[str], first: int, texts: list[str], source: str) -> pl.DataFrame:
    table = pl.select(
        prompt_id=pl.Series(names),
        prompt_index=pl.int_range(first, first + len(texts)),
        prompt=pl.Series(texts),
        source=pl.lit(source),
    )
    return schemas.validate("prompts", table.cast(schemas.PROMPTS))


def _checked(text: Any, index: int, data: str) -> str:
    if not isinstance(text, str):
        kind = "missing" if text is None else f"not text but {type(text).__name__}"
        raise PromptError(f"--data {data}: prompt {index} is {kind}")
    if not parsing.is_text(text):
        raise PromptError(f"--data {data}: prompt {index} holds half a character (a lone surrogate)")
    if not text.strip():
        raise PromptError(f"--data {data}: prompt {index} is empty")
    return text


def _texts(data: str, column: str) -> Iterator[Any]:
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
        files.check_column(table.column_names, column)
    except ConfigError as error:
        raise ConfigError(f"--data {data}: {error}") from error
    return iter(table[column])


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
