"""Prompts and records that a program holds: written once, as JSON lines under their content's digest."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from exptilt.data import files
from exptilt.errors import ConfigError
from exptilt.storage import filesystem, keys


def prompt_file(given: Any, column: str, root: str) -> str:
    """A name or a path of prompts, as --data takes it.

    Args:
        given: that already; or texts, a frame with `column`, or dicts with it, which are written.
        column: the column of the prompts, also in the file written.
        root: the save directory; the file lies in its folder inputs/.

    Raises:
        ConfigError: it is none of these.
        StorageError: nothing can be written there.
    """
    if isinstance(given, (str, Path)):
        return str(given)
    return _written([_prompt(row, column) for row in _rows(given, "data")], "prompts", root)


def record_file(given: Any, root: str) -> str:
    """A path of records, as --file takes it: `given` itself, or where its rows are written.

    `given` may be a frame or dicts. Raises as `prompt_file`.
    """
    if isinstance(given, (str, Path)):
        return str(given)
    return _written(list(_rows(given, "file")), "records", root)


def _rows(given: Any, name: str) -> Iterable[Any]:
    """The items of a list or a series, or the rows of a frame as dicts."""
    if hasattr(given, "collect"):  # a lazy frame
        given = given.collect()
    if hasattr(given, "columns"):
        return pl.DataFrame(given).iter_rows(named=True)
    if not isinstance(given, Iterable):
        raise ConfigError(f"{name}: give a name, a path, a list or a frame, not {type(given).__name__}")
    return given


def _prompt(row: Any, column: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        return {column: row}
    return {column: row[files.find_column(row, column)]}


def _written(rows: list[Any], what: str, root: str) -> str:
    text = "".join(_line(row, number, what) for number, row in enumerate(rows))
    folder, name = filesystem.join(root, "inputs"), f"{what}-{keys.content_key(text)[:16]}.jsonl"
    path = filesystem.join(folder, name)
    if name not in filesystem.names(folder):
        filesystem.write_bytes(path, text.encode())
    return path


def _line(row: Any, number: int, what: str) -> str:
    try:
        return json.dumps(row, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: number {number} cannot be written as JSON ({error})") from error
