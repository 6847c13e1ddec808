"""Files that others made: read whole or refused with a ValueError of one line, whatever is in them.

Parquet is read by pyarrow, which raises where polars' reader panics or waits for ever.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeGuard

Record = dict[str, Any]
Records = list[Record]
ROWS: Final = 10_000  # of a Parquet file at a time
FAILURES: Final = (OSError, MemoryError, NotImplementedError, KeyError, OverflowError, TypeError)


def json_value(data: bytes | str) -> Any:
    """The JSON value of `data`."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def records(value: Any) -> Records:
    """`value`, if it is a list of records."""
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise ValueError("not a list of records")
    return value


def parquet_records(data: bytes) -> Records:
    """The rows of a Parquet file."""
    import pyarrow.parquet

    with _refusing():
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        table.validate(full=True)
        rows: Records = table.to_pylist()
    return rows


def parquet_column(path: str, column: str) -> tuple[list[str], Iterator[Any]]:
    """The columns of a Parquet file, and the values of one, some thousands in memory at a time."""
    import pyarrow.parquet

    with _refusing():
        file = pyarrow.parquet.ParquetFile(path)
        return list(file.schema_arrow.names), _values(file, column)


def _values(file: Any, column: str) -> Iterator[Any]:
    with _refusing(), file:
        for batch in file.iter_batches(ROWS, columns=[column]):
            batch.validate(full=True)
            yield from batch.column(column).to_pylist()


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
