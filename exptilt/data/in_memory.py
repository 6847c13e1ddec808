"""Prompts and records that a program holds: written once, as JSON lines under their content's digest."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from exptilt.data import beside, conversations, file_names
from exptilt.data.columns import find_column
from exptilt.errors import ConfigError
from exptilt.storage import filesystem, keys


def prompt_file(given: Any, column: str, root: str) -> str:
    """A name or a path of prompts, as --data takes it.

    Args:
        given: that already, or a list of pathlib's paths; or texts, a frame with `column`, or dicts with it,
            which are written.
        column: the column of the prompts, also in the file written.
        root: the save directory; the file lies in its folder inputs/.

    Raises:
        ConfigError: it is none of these.
        StorageError: nothing can be written there.
    """
    if isinstance(given, (str, Path)):
        return str(given)
    if isinstance(given, Sequence) and given and any(isinstance(item, Path) for item in given):
        return _paths(given)
    return _written([_prompt(row, column) for row in _rows(given, "data")], "prompts", root)


def record_file(given: Any, root: str) -> str:
    """Paths of records, as --file takes them: `given` itself, or where its rows are written.

    `given` may be a frame or dicts. Raises as `prompt_file`.
    """
    if is_named(given):
        return ",".join(map(str, given)) if isinstance(given, (list, tuple)) else str(given)
    return _written(list(_rows(given, "file")), "records", root)


def is_named(given: Any) -> bool:
    """Whether `given` is a path of records, or several, as opposed to records."""
    if isinstance(given, (list, tuple)):
        return bool(given) and all(isinstance(item, (str, Path)) for item in given)
    return isinstance(given, (str, Path))


def _rows(given: Any, name: str) -> Iterable[Any]:
    """The items of a list or a series, or the rows of a frame as dicts."""
    if hasattr(given, "collect"):  # a lazy frame
        given = given.collect()
    if hasattr(given, "columns"):
        return pl.DataFrame(given).iter_rows(named=True)
    if not isinstance(given, Iterable):
        raise ConfigError(f"{name}: give a name, a path, a list or a frame, not {type(given).__name__}")
    return given


def _paths(given: Sequence[Any]) -> str:
    """Several files as --data takes them."""
    text = next((item for item in given if not isinstance(item, Path)), None)
    if text is not None:
        raise ConfigError(f"data: a list is of pathlib.Path alone, or of prompts; {text!r} is no Path")
    return ",".join(map(str, given))


def _is_path(text: str) -> bool:
    """Whether a text is more likely a file's name than a prompt."""
    is_remote = re.fullmatch(r"\w+://\S+", text) is not None
    return bool(file_names.ending(text)) and (is_remote or os.path.isfile(text))


def _prompt(row: Any, column: str) -> dict[str, Any]:
    if isinstance(row, str) and _is_path(row):
        raise ConfigError(
            f"data: a text in a list is a prompt, and {row!r} is a file: to read files, give a list of "
            "pathlib.Path, or one text with commas between their names"
        )
    if not isinstance(row, Mapping):
        return {column: row}
    chosen = find_column(row, column)
    others = beside.given(row, chosen) if conversations.is_listed(row[chosen]) else {}
    return {
        column: row[chosen],
        **{name: value if isinstance(value, str) else True for name, value in others.items()},
    }


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
