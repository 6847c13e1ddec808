"""Files that others made: read whole or refused with a ValueError of one line, whatever is in them.

Parquet is read by pyarrow, which raises where polars' reader panics or waits for ever.
"""

import json
from typing import Any, TypeGuard

Records = list[dict[str, Any]]


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

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        table.validate(full=True)
        rows: Records = table.to_pylist()
    except (OSError, MemoryError, NotImplementedError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return rows


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
