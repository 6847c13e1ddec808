"""Rows of a Parquet file as JSON text: what JSON cannot hold is refused by record and column."""

from collections.abc import Iterator
from typing import Any, Final

from exptilt.data.json_records import Record, text_of
from exptilt.errors import ConfigError

ADVICE: Final = "; leave the column out, or give an --output of the file's own ending"
LISTS = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
PLAIN = (
    "is_null",
    "is_boolean",
    "is_integer",
    "is_floating",
    "is_string",
    "is_large_string",
    "is_string_view",
)


def texts(batches: Iterator[Any], file: str) -> Iterator[tuple[Record, str]]:
    """The rows of Arrow record batches, each with its JSON text; ConfigError where there is no such text."""
    first = 0
    for batch in batches:
        for column, field in zip(batch.columns, batch.schema, strict=True):
            if batch.schema.names.count(field.name) > 1:
                raise ConfigError(f"--file {file}: JSON cannot hold two columns called {field.name!r}")
            if not is_plain(field.type) and column.null_count < len(column):
                at = first + column.is_valid().index(True).as_py()
                raise refused(file, at, field.name, f"JSON has nothing like {field.type}")
        for number, row in enumerate(batch.to_pylist(), first):
            yield row, _text(row, number, file)
        first += batch.num_rows


def _text(row: Record, number: int, file: str) -> str:
    try:
        return text_of(row, number)
    except ValueError as error:
        raise ConfigError(f"--file {file}: {error}{ADVICE}") from error


def is_plain(kind: Any) -> bool:
    """Whether JSON can hold an Arrow type: texts, numbers, truths, and lists and objects of these."""
    from pyarrow import types

    if types.is_dictionary(kind) or any(getattr(types, name)(kind) for name in LISTS):
        return is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(is_plain(kind.field(i).type) for i in range(kind.num_fields))
    return any(getattr(types, name)(kind) for name in PLAIN)


def refused(file: str, number: int, column: str, why: str) -> ConfigError:
    """What is raised for a value that the format to be written cannot hold."""
    return ConfigError(f"--file {file}: record {number}: column {column!r}: {why}{ADVICE}")
