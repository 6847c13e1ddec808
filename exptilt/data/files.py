"""Files of prompts and of records, read piece by piece: memory holds some thousands of rows."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from exptilt.data import json_records, parsing, text_files
from exptilt.data.json_records import Record
from exptilt.errors import ConfigError
from exptilt.storage import filesystem
from exptilt.wording import counted

T = TypeVar("T")
PROMPT: Final = "prompt"
CONVERSATIONS: Final = ("messages", "conversations", "conversation", "chosen")
ReadRecords = Callable[[str, list[str] | None], Iterator[Record]]


def is_file(data: str) -> bool:
    """Whether `data` is called like a file of prompts."""
    return _ending(data) in COLUMNS


def values(data: str, column: str) -> Iterator[Any]:
    """The values of a prompt file's `column`, types as they are: a number must not pass for text.

    Raises ConfigError, which names the file, where it cannot be read.
    """
    with _named("--data", data), filesystem.local_copy(data) as path:
        yield from COLUMNS[_ending(data)](path, column)


def check_records(flag: str, file: str) -> str:
    """The ending of a file of records, in small letters; ConfigError, which names `flag`, at another."""
    if _ending(file) not in RECORDS:
        raise ConfigError(f"{flag} {file}: must end in {', '.join(RECORDS)}")
    return _ending(file)


def records(file: str, columns: list[str] | None = None) -> Iterator[Record]:
    """The records of a .json, .jsonl or .parquet file; of `columns` at least, where there are such.

    Raises ConfigError, which names the file, where it cannot be read or holds none.
    """
    read = RECORDS[check_records("--file", file)]
    return _some(file, lambda path: read(path, columns))


def texts(file: str) -> Iterator[tuple[Record, str]]:
    """The records of a .json or .jsonl file, each with its own text; ConfigError as `records`."""
    return _some(file, TEXTS[_ending(file)])


def batches(file: str) -> Iterator[Any]:
    """The records of a .parquet file as Arrow record batches; ConfigError as `records`."""
    return _some(file, _batches)


def _some(file: str, read: Callable[[str], Iterator[T]]) -> Iterator[T]:
    none = True
    with _named("--file", file), filesystem.local_copy(file) as path:
        for found in read(path):
            none = False
            yield found
    if none:
        raise ConfigError(f"--file {file}: it holds no records")


def find_column(names: Iterable[str], column: str) -> str:
    """The column of the prompts: `column`, or where there is none of the usual name, that of conversations.

    Raises ConfigError where there is neither.
    """
    names = list(names)
    usual = [column, *(CONVERSATIONS if column == PROMPT else ())]
    chosen: str | None = next((name for name in usual if name in names), None)
    if chosen is None:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise ConfigError(f"no column {column!r}; its columns are {found} (--prompt-column)")
    return chosen


def _ending(file: str) -> str:
    return Path(file).suffix.lower()


@contextmanager
def _named(flag: str, file: str) -> Iterator[None]:
    """Say in one line which file cannot be read, and why."""
    try:
        with filesystem.clear_errors(file, "read"):
            yield
    except OSError as error:
        raise ConfigError(f"{flag}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{flag} {file}: {error}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{flag} {file}: cannot be read ({parsing.first_line(error)})") from error


def _lines(path: str) -> Iterator[str]:
    with Path(path).open("rb") as f:
        yield from text_files.lines(f)


def _txt(path: str, _column: str) -> Iterator[Any]:
    return (line.rstrip("\r\n") for line in _lines(path))


def _json(path: str) -> Iterator[tuple[Record, str]]:
    with Path(path).open("rb") as f:
        yield from parsing.json_items(f, json_records.record_at)


def _jsonl(path: str) -> Iterator[tuple[Record, str]]:
    lines = filter(None, (line.strip(json_records.SPACE) for line in _lines(path)))
    return (json_records.record_of(line, number) for number, line in enumerate(lines))


def _csv(path: str, column: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(_lines(path), strict=True)
    names = next(rows, None)
    if names is None:
        raise ValueError("empty CSV")
    names = names or [""]
    at = names.index(find_column(names, column))
    for row in rows:
        if not row and len(names) > 1:
            continue  # an empty line; of a single column it is an empty prompt
        if len(row or [""]) != len(names):
            fields = counted(len(row), "field")
            raise ValueError(f"line {rows.line_num} has {fields}, the first line {len(names)}")
        yield row[at] if row else ""


def _parquet(path: str, column: str) -> Iterator[Any]:
    chosen = find_column(parsing.parquet_columns(path), column)
    return (row[chosen] for row in parsing.parquet_rows(path, [chosen]))


def _batches(path: str) -> Iterator[Any]:
    parsing.check_instants(path)
    return parsing.parquet_batches(path)


def _column_of(read: Callable[[str], Iterator[tuple[Record, str]]]) -> Callable[[str, str], Iterator[Any]]:
    def column_of(path: str, column: str) -> Iterator[Any]:
        chosen = ""
        for record, _ in read(path):
            chosen = chosen or find_column(record, column)
            yield record.get(chosen)

    return column_of


def _records_of(read: Callable[[str], Iterator[tuple[Record, str]]]) -> ReadRecords:
    return lambda path, _columns: (record for record, _ in read(path))


TEXTS: Final[dict[str, Callable[[str], Iterator[tuple[Record, str]]]]] = {".json": _json, ".jsonl": _jsonl}
RECORDS: Final[dict[str, ReadRecords]] = {
    **{ending: _records_of(read) for ending, read in TEXTS.items()},
    ".parquet": parsing.parquet_rows,
}
COLUMNS: Final[dict[str, Callable[[str, str], Iterator[Any]]]] = {
    **{ending: _column_of(read) for ending, read in TEXTS.items()},
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}
