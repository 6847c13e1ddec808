"""The pool: computed tables under content keys, each entry complete once its manifest is there.

An entry is a folder with Parquet files and manifest.json, written last, which records rows, bytes
and SHA-256 of every file, and of itself. An entry that is missing, truncated or altered counts as absent.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from exptilt.errors import MissingError, StorageError
from exptilt.storage import filesystem, keys, lease, schemas

MANIFEST, SEAL = "manifest.json", "sha256"
Tables = dict[str, pl.DataFrame]
Made = tuple[Tables, dict[str, Any]]


def place(root: str, stage: str, *parts: str) -> str:
    """Where the pool under `root` keeps an entry of `stage`."""
    return filesystem.join(root, "pool", stage, *parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A complete entry: where it lies, what its manifest says of it, and the files that were read already."""

    path: str
    files: dict[str, dict[str, Any]]
    meta: dict[str, Any]
    read: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def table(self, name: str) -> pl.DataFrame:
        """The table `name` of this entry, checked against its recorded SHA-256 and its schema; columns that
        it was written without are null, where they may be."""
        data = self.read[name] if name in self.read else _read(self.path, name)
        if name not in self.read and filesystem.sha256(data) != self.files[name]["sha256"]:
            raise StorageError(f"{self.path}/{name}.parquet has changed since it was written")
        return schemas.validate(name, schemas.completed(name, pl.read_parquet(data)))


def described(path: str) -> Entry | None:
    """The entry at `path` as its manifest describes it, its files not looked at; None without one.

    A manifest that is not as it was written counts as none. StorageError where the store cannot say.
    """
    try:
        manifest = json.loads(filesystem.read_bytes(filesystem.join(path, MANIFEST)))
        files, meta = _files(manifest["files"]), dict(manifest["meta"])
        seal = manifest.get(SEAL, "")
    except (MissingError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if seal and seal != _sealed(files, meta):
        return None
    return Entry(path=path, files=files, meta=meta)


def _sealed(files: dict[str, Any], meta: dict[str, Any]) -> str:
    """The SHA-256 of what a manifest says."""
    return filesystem.sha256(json.dumps([files, meta], sort_keys=True).encode())


def _files(said: Any) -> dict[str, dict[str, Any]]:
    """The files of a manifest; ValueError unless each is a table that we know, with its SHA-256."""
    files = dict(said)
    for name, file in files.items():
        if name not in schemas.TABLES or not isinstance(file["sha256"], str):
            raise ValueError(f"no table of a pool: {name!r}")
    return files


def find(path: str) -> Entry | None:
    """The entry at `path`, or None unless its manifest is there and every file is as recorded."""
    entry = described(path)
    if entry is None:
        return None
    try:
        data = {name: _read(path, name) for name in entry.files}
    except MissingError:
        return None
    intact = all(filesystem.sha256(data[name]) == said["sha256"] for name, said in entry.files.items())
    return replace(entry, read=data) if intact else None


def _read(path: str, name: str) -> bytes:
    return filesystem.read_bytes(filesystem.join(path, f"{name}.parquet"))


def put(path: str, tables: Tables, meta: dict[str, Any]) -> Entry:
    """Write `tables` at `path`, then the manifest that makes them count."""
    files = {}
    for name, table in tables.items():
        data = filesystem.parquet_bytes(schemas.stored(name, schemas.validate(name, table)))
        filesystem.write_bytes(filesystem.join(path, f"{name}.parquet"), data)
        files[name] = {"rows": table.height, "bytes": len(data), "sha256": filesystem.sha256(data)}
    filesystem.write_json(
        filesystem.join(path, MANIFEST), {"files": files, "meta": meta, SEAL: _sealed(files, meta)}
    )
    return Entry(path=path, files=files, meta=meta)


def keep(root: str, stage: str, name: str, table: pl.DataFrame, meta: dict[str, Any]) -> str:
    """The path of an entry that holds `table` alone, under its content; written if it is not there."""
    path = place(root, stage, keys.content_key(schemas.stored(name, table).to_dict(as_series=False)))
    if find(path) is None:
        put(path, {name: table}, meta)
    return path


def compute_once(path: str, compute: Callable[[], Made]) -> tuple[Entry, bool]:
    """The entry at `path`, and whether it was there; else what `compute` gives, written there.

    Runs that share the storage compute an entry once: the others wait for it (see lease).
    """
    entry = find(path)
    if entry:
        return entry, True
    ((entry, cached),) = compute_together([path], lambda _: [(0, compute())])
    return entry, cached


def compute_together(
    paths: Sequence[str], compute: Callable[[list[int]], Iterable[tuple[int, Made]]]
) -> list[tuple[Entry, bool]]:
    """The entries at `paths`, and whether each was there; else what `compute` gives, written there.

    Args:
        paths: where the entries lie.
        compute: gets the places in `paths` of those that are not there; gives each by its place, and may
            raise once it has given what it could.
    """
    with lease.held(*(f"{path}.lease" for path in paths)):
        entries = {place: entry for place, path in enumerate(paths) if (entry := find(path))}
        there = set(entries)
        lacking = [place for place in range(len(paths)) if place not in there]
        for place, made in compute(lacking) if lacking else ():
            entries[place] = put(paths[place], *made)
    return [(entries[place], place in there) for place in range(len(paths))]
