"""Files of prompts and of records, read piece by piece: memory holds some thousands of rows."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from exptilt import store, untrusted
from exptilt.errors import ConfigError
from exptilt.untrusted import Record


def is_file(data: str) -> bool:
    """Whether `data` is called like a file of prompts."""
    return _ending(data) in COLUMNS


def values(data: str, column: str) -> Iterator[Any]:
    """The values of a prompt file's `column`, types as they are: a number must not pass for text.

    Raises ConfigError, which names the file, where it cannot be read.
    """
    with _named("--data", data), store.local_copy(data) as path:
        yield from COLUMNS[_ending(data)](path, column)


def records(file: str) -> Iterator[Record]:
    """The records of a .json, .jsonl or .parquet file; ConfigError, which names it, where there are none."""
    if _ending(file) not in RECORDS:
        raise ConfigError(f"--file {file}: must end in {', '.join(RECORDS)}")
    none = True
    with _named("--file", file), store.local_copy(file) as path:
        for record in RECORDS[_ending(file)](path):
            none = False
            yield record
    if none:
        raise ConfigError(f"--file {file}: it holds no records")


def check_column(names: Iterable[str], column: str) -> None:
    """Raise ConfigError unless `column` is one of `names`."""
    names = list(names)
    if column not in names:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise ConfigError(f"no column {column!r}; its columns are {found} (--prompt-column)")


def _ending(file: str) -> str:
    return Path(file).suffix.lower()


@contextmanager
def _named(flag: str, file: str) -> Iterator[None]:
    """Say in one line which file cannot be read, and why."""
    try:
        with store.clear_errors(file, "read"):
            yield
    except OSError as error:
        raise ConfigError(f"{flag}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{flag} {file}: {error}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{flag} {file}: cannot be read ({untrusted.first_line(error)})") from error


def _lines(path: str) -> Iterator[str]:
    """Lines with their ends; only a line feed ends one."""
    offset = 0
    with Path(path).open("rb") as f:
        for line in f:
            yield untrusted.utf8(line, offset)
            offset += len(line)


def _txt(path: str, _column: str) -> Iterator[Any]:
    return (line.removesuffix("\n") for line in _lines(path))


def _json(path: str) -> Iterator[Record]:
    with Path(path).open("rb") as f:
        yield from map(untrusted.record, untrusted.json_items(f))


def _jsonl(path: str) -> Iterator[Record]:
    return (untrusted.record(untrusted.json_value(line)) for line in _lines(path) if line.strip())


def _csv(path: str, column: str) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(_lines(path), strict=True)
    names = next(rows, None)
    if names is None:
        raise ValueError("empty CSV")
    names = [names[0].removeprefix("\ufeff"), *names[1:]] if names else [""]
    check_column(names, column)
    at = names.index(column)
    for row in rows:
        if not row and len(names) > 1:
            continue  # an empty line; of a single column it is an empty prompt
        if len(row or [""]) != len(names):
            raise ValueError(f"line {rows.line_num} has {len(row)} fields, the first line {len(names)}")
        yield row[at] if row else ""


def _parquet(path: str, column: str) -> Iterator[Any]:
    check_column(untrusted.parquet_columns(path), column)
    return (row[column] for row in untrusted.parquet_rows(path, [column]))


def _column_of(read: Callable[[str], Iterator[Record]]) -> Callable[[str, str], Iterator[Any]]:
    def column_of(path: str, column: str) -> Iterator[Any]:
        for number, record in enumerate(read(path)):
            if number == 0:
                check_column(record, column)
            yield record.get(column)

    return column_of


RECORDS: Final[dict[str, Callable[[str], Iterator[Record]]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": untrusted.parquet_rows,
}
COLUMNS: Final[dict[str, Callable[[str, str], Iterator[Any]]]] = {
    ".json": _column_of(_json),
    ".jsonl": _column_of(_jsonl),
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}
