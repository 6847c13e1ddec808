"""Files of records, read piece by piece: memory holds some thousands of rows."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from exptilt.data import beside, compressed, file_names, json_records, parsing, text_files
from exptilt.data.json_records import Record
from exptilt.errors import ConfigError
from exptilt.storage import access_errors, filesystem
from exptilt.wording import counted

T = TypeVar("T")
FEW_ROWS: Final = 100  # whose images are in memory at a time
PACKED: Final = ", or with .gz or .zst behind all but .parquet"
ReadRecords = Callable[[str, list[str] | None], Iterator[Record]]


def check_records(flag: str, file: str) -> str:
    """The ending of a file of records, in small letters; ConfigError, which names `flag`, at another."""
    ending = file_names.ending(file)
    if ending not in RECORDS:
        raise ConfigError(f"{flag} {file}: must end in {', '.join(RECORDS)}{PACKED}")
    return ending


def records(file: str, columns: list[str] | None = None) -> Iterator[Record]:
    """The records of a .json, .jsonl, .csv or .parquet file; of `columns` at least, where there are such.

    Raises ConfigError, which names the file, where it cannot be read or holds none.
    """
    read = RECORDS[check_records("--file", file)]
    return _some(file, lambda path: read(path, columns))


def texts(file: str) -> Iterator[tuple[Record, str]]:
    """The records of a .json, .jsonl or .csv file, each with its JSON text; ConfigError as `records`."""
    return _some(file, TEXTS[file_names.ending(file)])


def batches(file: str) -> Iterator[Any]:
    """The records of a .parquet file as Arrow record batches; ConfigError as `records`."""
    return _some(file, _batches)


def _some(file: str, read: Callable[[str], Iterator[T]]) -> Iterator[T]:
    none = True
    with named("--file", file), filesystem.local_copy(file) as path:
        for found in read(path):
            none = False
            yield found
    if none:
        raise ConfigError(f"--file {file}: it holds no records")


@contextmanager
def named(flag: str, file: str) -> Iterator[None]:
    """Say in one line which file cannot be read, and why."""
    try:
        with access_errors.clear_errors(file, "read"):
            yield
    except OSError as error:
        raise ConfigError(f"{flag}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{flag} {file}: {error}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{flag} {file}: cannot be read ({parsing.first_line(error)})") from error


def lines(path: str) -> Iterator[str]:
    """The lines of a file of text, as text_files has them."""
    with compressed.reading(path) as f:
        yield from text_files.lines(f)


def csv_table(path: str) -> tuple[list[str], Iterator[Record]]:
    """The columns of a .csv file, and its rows, all of whose cells are texts; of two of a name the first."""
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(lines(path), strict=True)
    names = next(rows, None)
    if names is None:
        raise ValueError("empty CSV")
    names = names or [""]
    return names, _csv_rows(rows, names)


def _csv_rows(rows: Any, names: list[str]) -> Iterator[Record]:
    for row in rows:
        if not row and len(names) > 1:
            continue  # an empty line; of a single column it is an empty text
        if len(row or [""]) != len(names):
            fields = counted(len(row), "field")
            raise ValueError(f"line {rows.line_num} has {fields}, the first line {len(names)}")
        yield dict(zip(reversed(names), reversed(row or [""]), strict=True))


def _csv(path: str) -> Iterator[Record]:
    """The rows with their columns in the file's order; ValueError where two bear one name."""
    names, rows = csv_table(path)
    parsing.check_once(names)
    return ({name: row[name] for name in names} for row in rows)


def _csv_texts(path: str) -> Iterator[tuple[Record, str]]:
    return ((record, json_records.text_of(record, number)) for number, record in enumerate(_csv(path)))


def _json(path: str) -> Iterator[tuple[Record, str]]:
    with compressed.reading(path) as f:
        yield from parsing.json_items(f, json_records.record_at)


def _jsonl(path: str) -> Iterator[tuple[Record, str]]:
    filled = filter(None, (line.strip(json_records.SPACE) for line in lines(path)))
    return (json_records.record_of(line, number) for number, line in enumerate(filled))


def _batches(path: str) -> Iterator[Any]:
    parsing.check_instants(path)
    return parsing.parquet_batches(path)


def _records_of(read: Callable[[str], Iterator[tuple[Record, str]]]) -> ReadRecords:
    return lambda path, _columns: (record for record, _ in read(path))


def _parquet(path: str, columns: list[str] | None) -> Iterator[Record]:
    """Where images stand beside conversations, few rows are in memory at a time."""
    others = beside.columns(parsing.parquet_columns(path), "") if columns else []
    return parsing.parquet_rows(path, columns, FEW_ROWS if others else parsing.ROWS)


TEXTS: Final[dict[str, Callable[[str], Iterator[tuple[Record, str]]]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv_texts,
}
RECORDS: Final[dict[str, ReadRecords]] = {
    **{ending: _records_of(read) for ending, read in TEXTS.items()},
    ".csv": lambda path, _columns: _csv(path),
    ".parquet": _parquet,
}
