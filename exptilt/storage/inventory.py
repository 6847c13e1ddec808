"""What lies in a pool: its folders one by one, each with its files and its manifest; no table is read."""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeVar

from exptilt.errors import ConfigError, StorageError
from exptilt.run import carried
from exptilt.storage import filesystem, listing, pool
from exptilt.storage.listing import Item
from exptilt.storage.paths import is_local

ENTRIES: Final = (
    "prompts",
    "samples",
    "imported",
    "counts",
    "rewards",
    "draws",
    "beginnings",
    "steered",
    "chains",
    "explored",
)
NOTES: Final = ("claims", "merging", "runs", "scored", "progress")
AT_ONCE: Final = 16  # folders of a store, which answers in some 20 ms
RANGE: Final = re.compile(r"\d+-\d+")
Kind = Literal["lease", "temporary", "deaths", "machine", "record", "scored", "failed prompts", "unknown"]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The folder of an entry, or of what was to become one.

    Attributes:
        path: where it lies.
        items: what lies in it, what is not the pool's among it.
        entry: as the manifest describes it; None without one, or where that is not as it was written.
        error: why the manifest cannot be read, "" where it can.
    """

    path: str
    items: tuple[Item, ...]
    entry: pool.Entry | None
    error: str = ""

    @property
    def name(self) -> str:
        """Its name in the pool."""
        return pool.name_of(self.path)

    @property
    def stage(self) -> str:
        """What its entry is."""
        return self.name.partition("/")[0]

    @property
    def has_manifest(self) -> bool:
        """Whether it counted as complete once."""
        return any(item.name == pool.MANIFEST for item in self.items)

    @property
    def own(self) -> list[Item]:
        """The entry's files: its manifest and tables."""
        return [item for item in self.items if item.name == pool.MANIFEST or pool.table_of(item.name)]

    @property
    def size(self) -> int:
        """Bytes of the entry's files."""
        return sum(item.size for item in self.own)

    @property
    def modified(self) -> float:
        """When the last of the entry's files was written, by the store's clock."""
        return max((item.modified for item in self.own), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """A file of the pool that is no part of an entry; or a file or folder that the pool does not know."""

    path: str
    item: Item
    kind: Kind


def root_of(folder: str) -> str:
    """The save directory that `folder` is, or whose pool it is; ConfigError where there is no pool."""
    given = filesystem.join(folder)
    if listing.is_folder(filesystem.join(given, pool.POOL)):
        return given
    parent, _, last = given.rpartition("/")
    if last == pool.POOL and listing.is_folder(given):
        return parent or ("/" if given.startswith("/") else ".")
    raise ConfigError(f"{folder}: no pool lies there; give the --save-directory of a run, or its pool")


def walk(root: str) -> Iterator[Folder | Loose]:
    """All that lies in the pool under `root`, a folder at a time."""
    top = filesystem.join(root, pool.POOL)
    for item in listing.items(top):
        path = filesystem.join(top, item.name)
        if item.is_folder and item.name in ENTRIES:
            yield from _stage(path)
        elif item.is_folder and item.name in NOTES:
            yield from _loose(path, item.name, listing.items(path))
        else:
            yield from _loose(top, "", [item])


def leases(root: str, stages: Sequence[str] = NOTES) -> Iterator[str]:
    """The leases by which runs say that they are at work, live or left behind."""
    for stage in stages:
        names = filesystem.names(pool.place(root, stage))
        yield from (pool.place(root, stage, name) for name in names if name.endswith(".lease"))


def _stage(path: str) -> Iterator[Folder | Loose]:
    found, stage = listing.items(path), path.rpartition("/")[2]
    yield from _loose(path, stage, [item for item in found if not item.is_folder])
    keys = [filesystem.join(path, item.name) for item in found if item.is_folder]
    for parts in _in_order(partial(_key, stage=stage), keys, 1 if is_local(path) else AT_ONCE):
        yield from parts


def _key(path: str, stage: str) -> list[Folder | Loose]:
    """The folder under a key; of samples those of their ranges, and itself where it holds an entry, too."""
    items = listing.items(path)
    ranges = [item for item in items if stage == "samples" and _is_range(item)]
    rest = [item for item in items if item not in ranges]
    inner = [filesystem.join(path, item.name) for item in ranges]
    folders = [_folder(each, listing.items(each)) for each in inner]
    mine = _folder(path, rest)
    loose = [
        each for folder in (*folders, mine) for each in _loose(folder.path, stage, _others(folder.items))
    ]
    return [*folders, *([mine] if mine.own or not inner else []), *loose]


def _is_range(item: Item) -> bool:
    return item.is_folder and RANGE.fullmatch(item.name) is not None


def _others(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if item.name != pool.MANIFEST and not pool.table_of(item.name)]


def _folder(path: str, items: Sequence[Item]) -> Folder:
    entry, error = None, ""
    if any(item.name == pool.MANIFEST for item in items):
        try:
            entry = pool.described(path)
        except StorageError as caught:
            error = str(caught)
    return Folder(path=path, items=tuple(items), entry=entry, error=error)


def _loose(folder: str, stage: str, items: Sequence[Item]) -> list[Loose]:
    return [
        Loose(path=filesystem.join(folder, item.name), item=item, kind=_kind(item, stage)) for item in items
    ]


def _kind(item: Item, stage: str) -> Kind:
    """What a file is by its name and place."""
    ending = item.name.rpartition(".")[2]
    if item.is_folder:
        return "unknown"
    if stage == "samples" and item.name == pool.FAILED:
        return "failed prompts"
    by_place: dict[tuple[str, str], Kind] = {
        ("claims", "deaths"): "deaths",
        ("claims", "computed"): "machine",
        ("runs", "json"): "record",
        ("progress", "json"): "record",
        ("scored", "json"): "scored",
    }
    by_ending: dict[str, Kind] = {"lease": "lease", "tmp": "temporary"}
    return by_place.get((stage, ending)) or by_ending.get(ending, "unknown")


def _in_order(work: Callable[[T], R], each: Sequence[T], at_once: int) -> Iterator[R]:
    """What `work` gives for each, in order, some at once; memory holds as many results and a few more."""
    if at_once == 1:
        yield from map(work, each)
        return
    with ThreadPoolExecutor(at_once) as threads:
        for first in range(0, len(each), 4 * at_once):
            yield from threads.map(carried(work), each[first : first + 4 * at_once])
