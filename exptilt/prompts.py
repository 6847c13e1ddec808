"""The prompt sources: demo, Anthropic-harmless, Imdb, a local file, a Hub data set."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt import demo, ids, schemas, store, untrusted
from exptilt.errors import ConfigError, PromptError

HARMLESS: Final = "Anthropic-harmless"
IMDB: Final = "Imdb"
SUPPORTED: Final = (
    "demo, Anthropic-harmless, Imdb, a .json, .jsonl, .csv, .parquet or .txt file (also on s3://), "
    "or a Hub data set as org/name or org/name:split"
)
HUB_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")
IMDB_REVIEWS: Final = 1000
IMDB_SHORTEST, IMDB_LONGEST = 20, 30

Texts = Iterator[Any]
Columns = dict[str, list[Any]]


def check_name(data: str) -> None:
    """Raise ConfigError (a ValueError) unless `data` names a supported prompt source."""
    if data in ("demo", HARMLESS, IMDB):
        return
    if Path(data).suffix.lower() in READERS:
        if store.is_local(data) and not Path(data).is_file():
            raise ConfigError(f"--data {data}: there is no such file")
    elif not HUB_NAME.fullmatch(data):
        raise ConfigError(f"unknown data {data!r}: supported are {SUPPORTED}")


def short_name(data: str) -> str:
    """The data's name as it stands in file names."""
    is_file = Path(data).suffix.lower() in READERS
    return Path(data).stem if is_file else re.split(r"[/:]", data)[1 if "/" in data else 0]


def load(data: str, column: str) -> pl.DataFrame:
    """The prompts table of `data`, in the source's order.

    Raises ConfigError where the source cannot be read, PromptError that names a bad prompt.
    """
    checked = (_checked(text, index, data) for index, text in enumerate(_texts(data, column)))
    blocks = [pl.Series(block) for block in iter(lambda: list(islice(checked, ids.BLOCK)), [])]
    if not blocks:
        raise ConfigError(f"--data {data}: it holds no prompts")
    texts = pl.concat(blocks)
    table = pl.select(
        prompt_id=ids.prompt_ids(texts),
        prompt_index=pl.int_range(len(texts)),
        prompt=texts,
        source=pl.lit(short_name(data)),
    )
    return schemas.validate("prompts", table.cast(schemas.PROMPTS))


def _checked(text: Any, index: int, data: str) -> str:
    if not isinstance(text, str):
        kind = "missing" if text is None else f"not text but {type(text).__name__}"
        raise PromptError(f"--data {data}: prompt {index} is {kind}")
    if not untrusted.is_text(text):
        raise PromptError(f"--data {data}: prompt {index} holds half a character (a lone surrogate)")
    if not text.strip():
        raise PromptError(f"--data {data}: prompt {index} is empty")
    return text


def _texts(data: str, column: str) -> Texts:
    if data == "demo":
        return iter(demo.PROMPTS.read_text(encoding="utf-8").splitlines())
    if data == HARMLESS:
        return _harmless()
    if data == IMDB:
        return _imdb()
    reader = READERS.get(Path(data).suffix.lower())
    return _from_file(data, column, reader) if reader else _from_hub(data, column)


def _from_file(data: str, column: str, reader: Callable[[str], Columns]) -> Texts:
    try:
        columns = reader(data)
    except UnicodeDecodeError as error:
        raise ConfigError(f"--data {data}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"--data: {error}") from error
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise ConfigError(f"--data {data}: cannot be read ({untrusted.first_line(error)})") from error
    if columns:
        _check_column(list(columns), data, column)
    return iter(columns.get(column, []))


def _check_column(columns: list[str], data: str, column: str) -> None:
    if column not in columns:
        found = ", ".join(name if name.isprintable() else repr(name) for name in columns)
        raise ConfigError(f"--data {data}: no column {column!r}; its columns are {found} (--prompt-column)")


def _utf8(path: str) -> str:
    return store.read_bytes(path).decode("utf-8")


def _read_lines(path: str) -> Columns:
    return {"prompt": _utf8(path).removesuffix("\n").split("\n")}


def _read_json(path: str) -> Columns:
    return _columns(untrusted.json_value(_utf8(path)))


def _read_jsonl(path: str) -> Columns:
    return _columns([untrusted.json_value(line) for line in _utf8(path).split("\n") if line.strip()])


def _columns(found: Any) -> Columns:
    """Records as columns, types as they are: a number must not pass for text."""
    records = untrusted.records(found)
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _read_csv(path: str) -> Columns:
    return pl.read_csv(_utf8(path).encode(), infer_schema=False).to_dict(as_series=False)


def _read_parquet(path: str) -> Columns:
    return _columns(untrusted.parquet_records(store.read_bytes(path)))


READERS: Final[dict[str, Callable[[str], Columns]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_lines,
}


def _hub(name: str, **options: Any) -> Any:
    """datasets.load_dataset, its many failures said in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"data set {name!r} cannot be had from the Hub or a folder of that name ({reason}); "
            "a downloaded file works too: --data FILE.jsonl --prompt-column NAME"
        ) from error


def _from_hub(data: str, column: str) -> Texts:
    name, _, split = data.partition(":")
    table = _hub(name, split=split or "train")
    _check_column(table.column_names, data, column)
    return iter(table[column])


def _harmless() -> Texts:
    """What stands between the first "Human: " and the first "Assistant:" of each `chosen`."""
    for row in _hub("Anthropic/hh-rlhf", data_dir="harmless-base", split="test"):
        after = row["chosen"].partition("Human: ")[2]
        yield after.partition("Assistant:")[0].strip()


def _imdb() -> Texts:
    """The first 1,000 reviews of over 30 characters, each cut at a word within 20 to 30 characters."""
    lengths = np.random.default_rng(0).integers(IMDB_SHORTEST, IMDB_LONGEST, size=IMDB_REVIEWS, endpoint=True)
    reviews = _hub("stanfordnlp/imdb", split="train")["text"]
    long_enough = (review for review in reviews if len(review) > IMDB_LONGEST)
    for review, length in zip(long_enough, lengths, strict=False):
        yield _cut_at_word(review, int(length))


def _cut_at_word(text: str, length: int) -> str:
    cut = text[: length + 1].rpartition(" ")[0]
    return cut or text[:length]
