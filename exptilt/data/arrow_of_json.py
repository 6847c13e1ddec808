"""Records of a JSON file as Arrow record batches: what Parquet cannot hold as it is, is refused.

A column's type is what all its values agree on. A key that a record lacks is null, as in every table.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from exptilt.data.json_of_arrow import ADVICE, refused
from exptilt.data.json_records import STRICT, Record, record_of
from exptilt.data.parsing import is_text
from exptilt.errors import ConfigError

Blocks = Callable[[], Iterator[list[str]]]  # the records' texts, some thousands at a time, every time anew
FAULTS: Final = (ValueError, TypeError, OverflowError, NotImplementedError)  # what pyarrow raises are these


def _double(literal: str) -> float:
    number = float(literal)
    if math.isinf(number) or (number == 0 and re.search("[1-9]", re.split("[eE]", literal)[0])):
        raise ValueError(f"{literal[:40]} is beyond what 64 bits hold")
    return number


DOUBLES: Final = json.JSONDecoder(
    parse_float=_double, parse_constant=STRICT.parse_constant, object_pairs_hook=STRICT.object_pairs_hook
)


def batches(blocks: Blocks, file: str) -> Iterator[Any]:
    """The records as Arrow record batches of one schema, known once all were seen.

    Raises ConfigError, which names record and column, where a value would not be the same in Parquet.
    """
    import pyarrow

    types = _types(blocks, file)
    schema = pyarrow.schema(list(types.items()))
    for first, records in _numbered(blocks, file):
        columns = [
            _array([record.get(name) for record in records], kind, first, name, file)
            for name, kind in types.items()
        ]
        yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _numbered(blocks: Blocks, file: str) -> Iterator[tuple[int, list[Record]]]:
    first = 0
    for texts in blocks():
        try:
            records = [record_of(text, number, DOUBLES)[0] for number, text in enumerate(texts, first)]
        except ValueError as error:
            raise ConfigError(f"--file {file}: {error}{ADVICE}") from error
        yield first, records
        first += len(records)


def _types(blocks: Blocks, file: str) -> dict[str, Any]:
    """Each column's type, columns by first appearance."""
    import pyarrow

    types: dict[str, Any] = {}
    for first, records in _numbered(blocks, file):
        for name in dict.fromkeys(name for record in records for name in record):
            if not is_text(name):
                raise ConfigError(f"--file {file}: no column can be called {name!r} in Parquet{ADVICE}")
            values = [record.get(name) for record in records]
            types[name] = _type(values, types.get(name, pyarrow.null()), first, name, file)
    return types


def _type(values: Sequence[Any], before: Any, first: int, name: str, file: str) -> Any:
    """The type of some values and of those `before`; where they do not agree, value by value."""
    import pyarrow

    try:
        return _merged(before, pyarrow.array(values).type)
    except FAULTS:
        pass
    for number, value in enumerate(values, first):
        try:
            before = _merged(before, pyarrow.array([value]).type)
        except FAULTS as error:
            raise refused(file, number, name, _apart(error)) from error
    return before


def _apart(error: BaseException) -> str:
    """Why a value does not go into a column with those before it."""
    said = str(error).partition("\n")[0].rpartition("incompatible types: ")[2]
    half = isinstance(error, UnicodeEncodeError)
    return f"a column of Parquet cannot hold it ({'half a character: a lone surrogate' if half else said})"


def _merged(one: Any, other: Any) -> Any:
    """The type that holds the values of both."""
    import pyarrow

    both = [pyarrow.schema([("x", kind)]) for kind in (one, other)]
    return pyarrow.unify_schemas(both, promote_options="permissive").field(0).type


def _array(values: Sequence[Any], kind: Any, first: int, name: str, file: str) -> Any:
    """The values as an Arrow array that gives the same back."""
    import pyarrow

    try:
        array = pyarrow.array(values, kind)
        if not _is_hollow(kind) and all(map(_same, values, array.to_pylist())):
            return array
    except FAULTS:
        pass
    at = next((at for at, value in enumerate(values) if not _holds(kind, value)), 0)
    raise refused(file, first + at, name, f"it would be another value in Parquet's {kind}")


def _holds(kind: Any, value: Any) -> bool:
    import pyarrow

    try:
        same = _same(value, pyarrow.array([value], kind)[0].as_py())
    except FAULTS:
        return False
    return same and (value is None or not _is_hollow(kind))


def _is_hollow(kind: Any) -> bool:
    """Whether an Arrow type has an object without keys in it, which Parquet cannot hold."""
    from pyarrow import types

    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return (types.is_struct(kind) and not inner) or any(map(_is_hollow, inner))


def _same(given: Any, found: Any) -> bool:
    """Whether a JSON value came back: a number may be a float of the same value, a missing key null."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(_same(given.get(key), found[key]) for key in found)
    if isinstance(given, list):
        return isinstance(found, list) and len(given) == len(found) and all(map(_same, given, found))
    return _is_number(given) == _is_number(found) and bool(given == found)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
