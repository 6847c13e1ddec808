"""Files that others made: read piece by piece or refused with a ValueError of one line, whatever is in them.

Parquet is read by pyarrow, which raises where polars' reader panics or does not return.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, TypeGuard

from exptilt.data.json_records import Record
from exptilt.data.text_files import decoding

Decode = Callable[[str, int], tuple[Any, int]]  # what stands at a place of a text, and where it ends
CHARACTERS: Final = 2**20  # of a JSON array that are read at a time; more where a record is larger
ROWS: Final = 10_000  # of a Parquet file at a time
SIGN: Final = re.compile(r"[ \t\n\r]*([\[,])[ \t\n\r]*")
AFTER: Final = re.compile(r"[ \t\n\r]*[,\]]")
END: Final = re.compile(r"[ \t\n\r]*(\[[ \t\n\r]*)?\][ \t\n\r]*")
DECODER: Final = json.JSONDecoder()
FAILURES: Final = (OSError, MemoryError, NotImplementedError, KeyError, OverflowError, TypeError)


def json_items(f: IO[bytes], decode: Decode = DECODER.raw_decode) -> Iterator[Any]:
    """The items of a JSON array, one after the other, as `decode` gives them."""
    read, text, at, number = decoding(f), "", 0, 0
    while True:
        item, end, said = _item(text, at, number, decode)
        if end:
            yield item
            at, number = end, number + 1
        elif more := read(max(CHARACTERS, len(text) - at)):
            text, at = text[at:] + more, 0
        else:
            break
    if not END.fullmatch(text, at) or (number == 0) != ("[" in text[at:]):
        raise ValueError(said)


def _item(text: str, at: int, number: int, decode: Decode) -> tuple[Any, int, str]:
    """Item `number` of an array, after its bracket or comma at `at`, and its end; else 0 and why not."""
    sign = SIGN.match(text, at)
    if not sign or sign[1] != ("," if number else "["):
        return None, 0, "more after the list" if number else "not a list"
    try:
        item, end = decode(text, sign.end())
    except json.JSONDecodeError as error:
        return None, 0, f"record {number}: {error.msg}"
    except RecursionError:
        raise ValueError(f"record {number} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"record {number}: {error}") from error
    return (item, end, "") if AFTER.match(text, end) else (None, 0, f"no comma after record {number}")


def parquet_rows(path: str, columns: list[str] | None = None, rows: int = 0) -> Iterator[Record]:
    """The rows of a Parquet file, ROWS or `rows` in memory at a time; of all columns, or of `columns`."""
    check_once(parquet_columns(path), columns)
    with _refusing():
        for batch in parquet_batches(path, columns, rows):
            yield from batch.to_pylist()


def parquet_batches(path: str, columns: list[str] | None = None, rows: int = 0) -> Iterator[Any]:
    """The same as Arrow record batches, as the file has them."""
    import pyarrow.parquet

    with _refusing(), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(rows or ROWS, columns=columns):
            batch.validate(full=True)
            yield batch


def check_instants(path: str) -> None:
    """ValueError where a Parquet file's INT96 timestamp is beyond the 64 bits in which Arrow reads it."""
    import pyarrow.parquet

    with _refusing(), pyarrow.parquet.ParquetFile(path, coerce_int96_timestamp_unit="ms") as file:
        leaves = [file.schema.column(i) for i in range(len(file.schema))]
        old = [leaf.path.partition(".")[0] for leaf in leaves if leaf.physical_type == "INT96"]
        types = pyarrow.parquet.read_schema(path)
        for batch in file.iter_batches(ROWS, columns=old) if old else ():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                column.cast(types.field(name).type)


def check_once(names: list[str], columns: list[str] | None = None) -> None:
    """ValueError if two columns bear one of the names that are read."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name in (columns or names)]
    if twice:
        raise ValueError(f"two columns are called {twice[0]!r}")


def parquet_columns(path: str) -> list[str]:
    """The names of a Parquet file's columns."""
    import pyarrow.parquet

    with _refusing(), pyarrow.parquet.ParquetFile(path) as file:
        return list(file.schema_arrow.names)


@contextmanager
def _refusing() -> Iterator[None]:
    """What a damaged file makes its reader raise, as a ValueError."""
    try:
        yield
    except FAILURES as error:
        raise ValueError(str(error) or type(error).__name__) from error


def is_text(value: Any) -> TypeGuard[str]:
    """Whether `value` is text that can be written down (a lone surrogate cannot)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
