"""Prompt files, read piece by piece (a .json array is parsed as a whole): one column's values, in order."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from exptilt import store, untrusted
from exptilt.errors import ConfigError
from exptilt.untrusted import Record

Values = Iterator[Any]


def is_file(data: str) -> bool:
    """Whether `data` is called like a file that can be read."""
    return Path(data).suffix.lower() in READERS


def values(data: str, column: str) -> Values:
    """The values of `column`, types as they are: a number must not pass for text.

    Raises ConfigError, which names the file, where it cannot be read.
    """
    try:
        with store.clear_errors(data, "read"), store.local_copy(data) as path:
            yield from READERS[Path(data).suffix.lower()](path, column)
    except OSError as error:
        raise ConfigError(f"--data: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"--data {data}: {error}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"--data {data}: cannot be read ({untrusted.first_line(error)})") from error


def check_column(names: Iterable[str], column: str) -> None:
    """Raise ConfigError unless `column` is one of `names`."""
    names = list(names)
    if column not in names:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise ConfigError(f"no column {column!r}; its columns are {found} (--prompt-column)")


def _lines(path: str) -> Iterator[str]:
    """Lines with their ends; only a line feed ends one."""
    offset = 0
    with Path(path).open("rb") as f:
        for line in f:
            yield _utf8(line, offset)
            offset += len(line)


def _utf8(data: bytes, offset: int = 0) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {offset + error.start}") from error


def _txt(path: str, _column: str) -> Values:
    return (line.removesuffix("\n") for line in _lines(path))


def _json(path: str, column: str) -> Values:
    return _of_records(untrusted.records(untrusted.json_value(_utf8(Path(path).read_bytes()))), column)


def _jsonl(path: str, column: str) -> Values:
    found = (untrusted.json_value(line) for line in _lines(path) if line.strip())
    return _of_records((untrusted.records([value])[0] for value in found), column)


def _of_records(records: Iterable[Record], column: str) -> Values:
    for number, record in enumerate(records):
        if number == 0:
            check_column(record, column)
        yield record.get(column)


def _csv(path: str, column: str) -> Values:
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


def _parquet(path: str, column: str) -> Values:
    names, found = untrusted.parquet_column(path, column)
    check_column(names, column)
    return found


READERS: Final[dict[str, Callable[[str, str], Values]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}
