"""What files there are in a folder or by a pattern: sorted by name, on a local disk and on a store alike.

Names that begin with a dot or an underscore are hidden, as _SUCCESS and .ipynb_checkpoints: they are listed
only where a pattern says so.
"""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from exptilt.storage import access_errors, filesystem, s3
from exptilt.storage.paths import is_local

HIDDEN = (".", "_")


def is_folder(path: str) -> bool:
    """Whether there is a folder at `path`, or objects below it; StorageError where that cannot be known."""
    if is_local(path):
        return os.path.isdir(path)
    with access_errors.clear_errors(path, "list"):
        fs, inner = filesystem.filesystem(path)
        return bool(s3.with_retries(lambda: fs.isdir(inner)))


def is_file(path: str) -> bool:
    """Whether there is a file at `path`; StorageError where that cannot be known."""
    if is_local(path):
        return os.path.isfile(path)
    with access_errors.clear_errors(path, "list"):
        fs, inner = filesystem.filesystem(path)
        return bool(s3.with_retries(lambda: fs.isfile(inner)))


def files_in(folder: str) -> list[str]:
    """The paths of the files in `folder` and its folders, relative to it, without hidden ones."""
    with access_errors.clear_errors(folder, "list"):
        names = _walked(folder) if is_local(folder) else _found(folder)
        return sorted(name for name in names if not any(map(_is_hidden, name.split("/"))))


def _walked(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder, onerror=_raise):
        inner = os.path.relpath(where, folder)
        yield from names if inner == "." else (f"{inner}/{name}" for name in names)


def _raise(error: OSError) -> NoReturn:
    raise error


def _found(folder: str) -> list[str]:
    fs, inner = filesystem.filesystem(folder)
    found = s3.with_retries(lambda: fs.find(inner))
    return [str(path).removeprefix(f"{inner.rstrip('/')}/") for path in found]


def matching(pattern: str) -> list[str]:
    """The paths of the files and folders that `pattern` (of *, ?, [ ] and **) stands for."""
    with access_errors.clear_errors(pattern, "list"):
        paths = glob.glob(pattern, recursive=True) if is_local(pattern) else _matched(pattern)
    last = pattern.rstrip("/").rsplit("/", 1)[-1]
    return sorted(path for path in paths if _is_listed(path.rstrip("/").rsplit("/", 1)[-1], last))


def _matched(pattern: str) -> list[str]:
    fs, inner = filesystem.filesystem(pattern)
    scheme = pattern.partition("://")[0]
    return [f"{scheme}://{path}" for path in s3.with_retries(lambda: fs.glob(inner))]


def _is_listed(name: str, pattern: str) -> bool:
    return not _is_hidden(name) or pattern.startswith(HIDDEN)


def _is_hidden(name: str) -> bool:
    return name.startswith(HIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file or a folder as its folder lists it.

    Attributes:
        name: without the folder.
        is_folder: whether it is one, or a prefix of a store.
        size: in bytes; 0 of a folder.
        modified: when it was written, in seconds of the clock of its store; 0 of a prefix.
        is_link: whether it is a link to one.
    """

    name: str
    is_folder: bool
    size: int
    modified: float
    is_link: bool = False


def items(folder: str) -> list[Item]:
    """What lies directly in `folder`, hidden ones too, by name; nothing if there is no such folder."""
    with access_errors.clear_errors(folder, "list"):
        fs, inner = filesystem.filesystem(folder)
        try:
            found = s3.with_retries(lambda: fs.ls(inner, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []
    listed = [_item(said) for said in found if said["name"].rstrip("/") != inner.rstrip("/")]
    return sorted(listed, key=lambda item: item.name)


def _item(said: dict[str, Any]) -> Item:
    """An item from what a file system says of it: seconds on a disk, a date on a store."""
    is_folder, at = said["type"] == "directory", said.get("mtime") or said.get("LastModified") or 0.0
    return Item(
        name=said["name"].rstrip("/").rsplit("/", 1)[-1],
        is_folder=is_folder,
        size=0 if is_folder else int(said["size"] or 0),
        modified=at.timestamp() if isinstance(at, datetime) else float(at),
        is_link=bool(said.get("islink")),
    )
