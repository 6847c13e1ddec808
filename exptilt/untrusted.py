"""Files that others made: read piece by piece or refused with a ValueError of one line, whatever is in them.

Parquet is read by pyarrow, which raises where polars' reader panics or waits for ever.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, TypeGuard

Record = dict[str, Any]
CHARACTERS: Final = 2**20  # of a JSON array that are read at a time; more where a record is larger
ROWS: Final = 10_000  # of a Parquet file at a time
SIGN: Final = re.compile(r"[ \t\n\r]*([\[,])[ \t\n\r]*")
AFTER: Final = re.compile(r"[ \t\n\r]*[,\]]")
DECODER: Final = json.JSONDecoder()
FAILURES: Final = (OSError, MemoryError, NotImplementedError, KeyError, OverflowError, TypeError)


def json_value(data: bytes | str) -> Any:
    """The JSON value of `data`."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_items(f: IO[bytes]) -> Iterator[Any]:
    """The items of a JSON array, one after the other."""
    read, text, at, number = _decoding(f), "", 0, 0
    while True:
        item, end, said = _item(text, at, number)
        if end:
            yield item
            at, number = end, number + 1
        elif more := read(max(CHARACTERS, len(text) - at)):
            text, at = text[at:] + more, 0
        else:
            break
    if "".join(text[at:].split()) != ("]" if number else "[]"):
        raise ValueError(said)


def _item(text: str, at: int, number: int) -> tuple[Any, int, str]:
    """Item `number` of an array, after its bracket or comma at `at`, and its end; else 0 and why not."""
    sign = SIGN.match(text, at)
    if not sign or sign[1] != ("," if number else "["):
        return None, 0, "more after the list" if number else "not a list"
    try:
        item, end = DECODER.raw_decode(text, sign.end())
        return (item, end, "") if AFTER.match(text, end) else (None, 0, f"no comma after record {number}")
    except json.JSONDecodeError as error:
        return None, 0, f"record {number}: {error.msg}"
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _decoding(f: IO[bytes]) -> Callable[[int], str]:
    """Reads so many bytes of `f` as UTF-8 text; nothing at its end."""
    decoder, offset = codecs.getincrementaldecoder("utf-8")(), 0

    def read(size: int) -> str:
        nonlocal offset
        data, begun = f.read(size), len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 at byte {offset - begun + error.start}") from error
        offset += len(data)
        return text

    return read


def utf8(data: bytes, offset: int = 0) -> str:
    """The text of `data`, which begins at byte `offset` of a file."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {offset + error.start}") from error


def record(value: Any) -> Record:
    """`value`, if it is a record."""
    if not isinstance(value, dict):
        raise ValueError("not a list of records")
    return value


def parquet_rows(path: str, columns: list[str] | None = None) -> Iterator[Record]:
    """The rows of a Parquet file, some thousands in memory at a time; of all columns, or of `columns`."""
    import pyarrow.parquet

    with _refusing(), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=columns):
            batch.validate(full=True)
            yield from batch.to_pylist()


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
