"""How files of prompts are called: endings, patterns, FOLDER:SPLIT, and names of them for others."""

import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from exptilt.data import compressed

ENDINGS: Final = (".json", ".jsonl", ".csv", ".parquet", ".txt")
PACKED: Final = ".parquet"  # compressed in itself: .gz or .zst behind it is no format
WILD: Final = re.compile(r"[*?\[]")
HUB_NAME: Final = re.compile(r"(?!\.)[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")


class File(NamedTuple):
    """A file of rows, and its ending in small letters, without that of a compression."""

    path: str
    ending: str


def ending(name: str) -> str:
    """The ending of a file's format, in small letters; "" where it is none of ENDINGS."""
    inner = Path(compressed.plain(name)).suffix.lower()
    return "" if inner not in ENDINGS or (inner == PACKED and compressed.is_compressed(name)) else inner


def is_there(data: str) -> bool:
    """Whether there is a file or a folder of that name on this machine, or FOLDER:SPLIT of one."""
    return os.path.exists(data) or os.path.isdir(folder_and_split(data)[0])


def is_spelled(data: str) -> bool:
    """Whether `data` is written like files: with an ending, as a path, with a comma or as a pattern."""
    is_path = "://" in data or data.startswith(("/", "./", "../"))
    return bool(ending(data) or is_path or "," in data or WILD.search(data))


def folder_and_split(part: str) -> tuple[str, str]:
    """FOLDER:SPLIT taken apart, where FOLDER may be one; else `part` and no split."""
    folder, colon, split = part.rpartition(":")
    is_split = colon and re.fullmatch(r"[\w.-]+", split) and not os.path.exists(part)
    if is_split and (os.path.isdir(folder) or "://" in folder):
        return folder, split
    return part, ""


def names_of(files: Sequence[File]) -> list[str]:
    """What to call each of several files: its path below the folder that they share."""
    parts = [file.path.split("/") for file in files]
    folders = zip(*(part[:-1] for part in parts), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, folders)))
    return ["/".join(part[shared:]) for part in parts]


def short_name(data: str) -> str:
    """What files are called in the names of others: the first one's or the folder's name, without endings."""
    first, *more = [data] if os.path.isfile(data) else data.split(",")
    if more:
        return f"{short_name(first.strip())}-and-{len(more)}-more"
    folder, split = folder_and_split(first)
    path = Path(compressed.plain(folder))
    stem = path.stem if ending(folder) else path.name
    if not os.path.exists(folder):
        stem = _before_wild(stem) or _before_wild(path.parent.name)
    return "-".join(filter(None, (stem or "prompts", split)))


def _before_wild(name: str) -> str:
    """What a name begins with before it is a pattern."""
    return WILD.split(name)[0].strip("-_. ") if WILD.search(name) else name
