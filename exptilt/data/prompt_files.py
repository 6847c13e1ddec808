"""Files of prompts, one or several, read piece by piece: memory holds some thousands of rows."""

from collections.abc import Callable, Iterator
from typing import Final

from exptilt.data import beside, file_names, file_sets, files, folders, hub, parsing
from exptilt.data.columns import Value, find_column, value_of
from exptilt.data.file_names import File
from exptilt.data.json_records import Record
from exptilt.errors import ConfigError
from exptilt.storage import filesystem


def values(data: str, column: str) -> Iterator[Value]:
    """The values of a `column` of prompt files, types as they are: a number must not pass for text.

    Args:
        data: the files, see file_sets.
        column: of the prompts, see `find_column`; the same one in all files.

    Raises:
        ConfigError: a file is not there, or cannot be read; it is named.
    """
    found = file_sets.files_of(data)
    if len(found) == 1:
        yield from _values(found[0], column)
        return
    first: tuple[str, str] | None = None
    for file, name in zip(found, file_names.names_of(found), strict=True):
        for row, value in enumerate(_values(file, column)):
            first = first or (value.column, file.path)
            if value.column != first[0]:
                raise ConfigError(_of_other_columns(file.path, value.column, *first))
            yield value._replace(place=f"{name}:{row}")


def _values(file: File, column: str) -> Iterator[Value]:
    if file.ending == folders.SAVED:
        yield from hub.saved(file.path, column)
        return
    with files.named("--data", file.path), filesystem.local_copy(file.path) as path:
        yield from COLUMNS[file.ending](path, column)


def _of_other_columns(path: str, column: str, other: str, before: str) -> str:
    names = [f"in column {name!r}" if name else "in its lines" for name in (column, other)]
    return (
        f"--data {path}: its prompts stand {names[0]}, those of {before} {names[1]}: name one column that "
        "all files have (--prompt-column), or give files of one kind"
    )


def _txt(path: str, _column: str) -> Iterator[Value]:
    return (Value(line.rstrip("\r\n")) for line in files.lines(path))


def _csv(path: str, column: str) -> Iterator[Value]:
    names, rows = files.csv_table(path)
    chosen = find_column(names, column)
    return (value_of(row, chosen) for row in rows)


def _parquet(path: str, column: str) -> Iterator[Value]:
    """Where more than the column is looked at, as images, few rows are in memory at a time."""
    names = parsing.parquet_columns(path)
    chosen = find_column(names, column)
    others = beside.columns(names, chosen)
    for row in parsing.parquet_rows(path, [chosen, *others], files.FEW_ROWS if others else parsing.ROWS):
        yield value_of(row, chosen)


def _column_of(read: Callable[[str], Iterator[tuple[Record, str]]]) -> Callable[[str, str], Iterator[Value]]:
    def column_of(path: str, column: str) -> Iterator[Value]:
        chosen: str | None = None
        for record, _ in read(path):
            chosen = find_column(record, column) if chosen is None else chosen
            yield value_of(record, chosen)

    return column_of


COLUMNS: Final[dict[str, Callable[[str, str], Iterator[Value]]]] = {
    **{ending: _column_of(read) for ending, read in files.TEXTS.items()},
    ".csv": _csv,
    ".parquet": _parquet,
    ".txt": _txt,
}
