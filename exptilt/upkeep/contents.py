"""What a pool holds, added up: by model, by stage, and what is no whole entry."""

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from exptilt.errors import StorageError
from exptilt.storage import filesystem, inventory, keys, process_identity
from exptilt.storage.inventory import Folder, Loose
from exptilt.upkeep import references
from exptilt.upkeep.references import References


@dataclass(slots=True)
class Totals:
    """Entries added up: how many, their rows and bytes, when the first and the last were written."""

    entries: int = 0
    rows: int = 0
    size: int = 0
    first: float = float("inf")
    last: float = 0.0

    def add(self, folder: Folder) -> None:
        """Add an entry."""
        self.entries += 1
        self.rows += rows_of(folder)
        self.size += folder.size
        self.first, self.last = min(self.first, folder.modified), max(self.last, folder.modified)


@dataclass(slots=True)
class Model:
    """What a pool holds of one model with one set of settings and one seed, or of a file's texts.

    Attributes:
        origin: p0's identity, the model's name and the seed, or the file, as entries note it.
        samples: its entries of samples.
        reach: by an n: for how many prompts there are samples up to it.
        values: rows of rewards by value.
        all: all of its entries.
        outputs: the places of the outputs that refer to any of them.
    """

    origin: Mapping[str, Any]
    samples: Totals = field(default_factory=Totals)
    all: Totals = field(default_factory=Totals)
    reach: Counter[int] = field(default_factory=Counter)
    starts: Counter[int] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    outputs: set[int] = field(default_factory=set)

    def add(self, folder: Folder) -> None:
        """Add an entry of the model."""
        self.all.add(folder)
        rows = rows_of(folder)
        if reward := folder.entry and folder.entry.meta.get("reward"):
            self.values[reward["value"]] += rows
        if folder.stage == "imported" and folder.entry and "samples" in folder.entry.files:
            self.samples.add(folder)
        if found := re.fullmatch(r"samples/\w+/(\d+)-(\d+)", folder.name):
            self.samples.add(folder)
            first, last = int(found[1]), int(found[2])
            self.starts[first] += rows // (last - first)
            self.reach[last] += rows // (last - first)


@dataclass(slots=True)
class Contents:
    """A pool's contents.

    Attributes:
        models: by their origin's key; "" is what names none.
        stages: by their names.
        total: of all entries.
        partial: folders with tables and no manifest: begun, and not finished.
        damaged: folders whose manifest is not as it was written, or cannot be read.
        leases: paths of leases, each with who holds it.
        loose: other files, by kind.
        unknown: paths of files and folders that are not the pool's.
    """

    root: str
    references: References
    models: dict[str, Model] = field(default_factory=dict)
    stages: dict[str, Totals] = field(default_factory=dict)
    total: Totals = field(default_factory=Totals)
    partial: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    leases: list[tuple[str, str]] = field(default_factory=list)
    loose: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)


def gather(root: str) -> Contents:
    """The contents of the pool under `root`, an entry in memory at a time.

    Raises:
        StorageError: a folder cannot be listed.
    """
    contents = Contents(root, references.find(root))
    for found in inventory.walk(root):
        if isinstance(found, Loose):
            _enter_loose(contents, found)
        elif found.entry:
            _enter(contents, found)
        elif found.has_manifest:
            contents.damaged.append(found.path)
        elif found.own:
            contents.partial.append(found.path)
    return contents


def rows_of(folder: Folder) -> int:
    """Rows of an entry: those of its largest table; 0 of what is no entry."""
    files = folder.entry.files.values() if folder.entry else ()
    return max((int(said.get("rows", 0)) for said in files), default=0)


def origin_of(folder: Folder) -> dict[str, Any]:
    """The model, with its settings and the seed, or the file, that an entry is of; {} where it names none."""
    meta = folder.entry.meta if folder.entry else {}
    return {name: meta[name] for name in ("p0", "name", "seed", "file") if name in meta}


def _enter(contents: Contents, folder: Folder) -> None:
    origin = origin_of(folder)
    key = keys.content_key(origin) if origin else ""
    model = contents.models.setdefault(key, Model(origin))
    model.add(folder)
    model.outputs.update(contents.references.of(folder))
    contents.stages.setdefault(folder.stage, Totals()).add(folder)
    contents.total.add(folder)


def _enter_loose(contents: Contents, loose: Loose) -> None:
    if loose.kind == "lease":
        contents.leases.append((loose.path, _holder(loose.path)))
    elif loose.kind == "unknown":
        contents.unknown.append(loose.path)
    else:
        contents.loose[loose.kind] += 1


def _holder(path: str) -> str:
    """Who holds a lease."""
    with suppress(StorageError, KeyError, TypeError, ValueError):
        said = filesystem.read_json(path)
        ended = ", which has ended" if process_identity.is_dead(said) else ""
        return f"process {said['pid']} on {said['host']}{ended}"
    return "unknown"
