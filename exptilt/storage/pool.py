"""The pool: computed tables under content keys, each entry complete once its manifest is there.

An entry is a folder with Parquet files, each named by its own SHA-256, and manifest.json, written last,
which records name, rows, bytes and SHA-256 of every file, and its own. An entry that is missing, truncated or
altered counts as absent. The first manifest stays: who comes later with other tables takes those that are
there, so that results which are not deterministic never mix.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from exptilt.errors import MissingError, StorageError
from exptilt.storage import exclusive, filesystem, keys, lease, schemas

POOL: Final = "pool"  # its folder under the save directory
MANIFEST, SEAL, FILE = "manifest.json", "sha256", "file"
DIGITS = 16  # of a table's SHA-256, in its file's name
FAILED = "failed.json"  # beside entries of samples: the prompts of their block at which a draw failed
OFFERS = 10  # of a manifest, where damaged ones are in its place
Tables = dict[str, pl.DataFrame]
Made = tuple[Tables, dict[str, Any]]


def place(root: str, stage: str, *parts: str) -> str:
    """Where the pool under `root` keeps an entry of `stage`."""
    return filesystem.join(root, POOL, stage, *parts)


def name_of(path: str) -> str:
    """What the entry at `path` is called in its pool, wherever that lies: STAGE/KEY, or samples/KEY/RANGE."""
    return path.rpartition(f"/{POOL}/")[2]


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
        data = self.read[name] if name in self.read else filesystem.read_bytes(self.file(name))
        if name not in self.read and filesystem.sha256(data) != self.files[name]["sha256"]:
            raise StorageError(f"{self.file(name)} has changed since it was written")
        return loaded(name, data)

    def file(self, name: str) -> str:
        """Where the table `name` of this entry lies."""
        return filesystem.join(self.path, self.files[name].get(FILE, f"{name}.parquet"))


def loaded(name: str, data: bytes) -> pl.DataFrame:
    """The table `name` from its file's bytes; StorageError where its columns or numbers are not a table's."""
    return schemas.validate(name, schemas.completed(name, pl.read_parquet(data)))


def described(path: str) -> Entry | None:
    """The entry at `path` as its manifest describes it, its files not looked at; None without one.

    A manifest that is not as it was written counts as none. StorageError where the store cannot say.
    """
    return _entry(path, _manifest(path) or b"")


def _manifest(path: str) -> bytes | None:
    """The manifest at `path` as it is stored; None without one."""
    try:
        return filesystem.read_bytes(filesystem.join(path, MANIFEST))
    except MissingError:
        return None


def _entry(path: str, manifest: bytes) -> Entry | None:
    """The entry that `manifest` describes; None where it is not as it was written."""
    try:
        said = json.loads(manifest)
        files, meta = _files(said["files"]), dict(said["meta"])
        seal = said.get(SEAL, "")
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if seal and seal != _sealed(files, meta):
        return None
    return Entry(path=path, files=files, meta=meta)


def _sealed(files: dict[str, Any], meta: dict[str, Any]) -> str:
    """The SHA-256 of what a manifest says."""
    return filesystem.sha256(json.dumps([files, meta], sort_keys=True).encode())


def _files(said: Any) -> dict[str, dict[str, Any]]:
    """The files of a manifest; ValueError unless each is a table that we know, with its SHA-256 and its name.

    Pools of before have no names in their manifests: a file is called after its table alone.
    """
    files = dict(said)
    for name, file in files.items():
        if name not in schemas.TABLES or not isinstance(file["sha256"], str):
            raise ValueError(f"no table of a pool: {name!r}")
        if file.get(FILE, _file_name(name, file["sha256"])) != _file_name(name, file["sha256"]):
            raise ValueError(f"not the file of table {name!r}: {file[FILE]!r}")
    return files


def _file_name(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:DIGITS]}.parquet"


def table_of(file_name: str) -> str:
    """The table that a file of an entry is called after; empty for what is no such file."""
    match = re.fullmatch(rf"([a-z]+)(-[0-9a-f]{{{DIGITS}}})?\.parquet", file_name)
    return match[1] if match and match[1] in schemas.TABLES else ""


def find(path: str) -> Entry | None:
    """The entry at `path`, or None unless its manifest is there and every file is as recorded."""
    entry = described(path)
    return _whole(entry) if entry else None


def _whole(entry: Entry) -> Entry | None:
    """`entry` with its files read; None unless every one is as recorded."""
    try:
        data = {name: filesystem.read_bytes(entry.file(name)) for name in entry.files}
    except MissingError:
        return None
    intact = all(filesystem.sha256(data[name]) == said["sha256"] for name, said in entry.files.items())
    return replace(entry, read=data) if intact else None


def put(path: str, tables: Tables, meta: dict[str, Any]) -> Entry:
    """Write `tables` at `path`, then the manifest that makes them count; what is there then.

    That is another's entry where one has been there first; these tables are removed again. An entry that is
    damaged is replaced.
    """
    files = {name: _write(path, name, table) for name, table in tables.items()}
    mine = Entry(path=path, files=files, meta=meta)
    there = _offered(mine)
    for file in set(map(mine.file, mine.files)) - set(map(there.file, there.files)):
        with suppress(StorageError):  # what stays is removed later, see cleanup
            filesystem.remove(file)
    return there


def _write(path: str, name: str, table: pl.DataFrame) -> dict[str, Any]:
    """Write a table at `path`; what the manifest says of its file."""
    data = filesystem.parquet_bytes(schemas.stored(name, schemas.validate(name, table)))
    sha256 = filesystem.sha256(data)
    file = _file_name(name, sha256)
    filesystem.write_bytes(filesystem.join(path, file), data)
    return {FILE: file, "rows": table.height, "bytes": len(data), "sha256": sha256}


def _offered(mine: Entry) -> Entry:
    """The entry that is there once the manifest of `mine` was offered: `mine`, or the one that was first.

    What is there is read before and after: not every store refuses to create an object a second time.
    """
    said = {"files": mine.files, "meta": mine.meta, SEAL: _sealed(mine.files, mine.meta)}
    place, text = filesystem.join(mine.path, MANIFEST), filesystem.json_bytes(said)
    for _ in range(OFFERS):
        if (there := _manifest(mine.path)) == text:
            return mine
        entry = _entry(mine.path, there or b"")
        if entry and (whole := _whole(entry)):
            return whole
        if there is not None:
            _remove_damaged(mine.path, there)
        exclusive.create(place, text)
    raise StorageError(f"cannot write {place}: what was written did not come back")


def _remove_damaged(path: str, manifest: bytes) -> None:
    """Remove `manifest` unless it was replaced meanwhile; one after the other, so that no new one is hit."""
    place = filesystem.join(path, MANIFEST)
    with lease.held(f"{place}.lease"):
        if _manifest(path) == manifest:
            filesystem.remove(place)


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

    Those that no other run computes now come first, then those that others hold.

    Args:
        paths: where the entries lie.
        compute: gets the places in `paths` of those that are not there; gives each by its place, and may
            raise once it has given what it could.
    """
    made: dict[int, tuple[Entry, bool]] = {}
    with lease.Leases() as leases:
        free = [place for place, path in enumerate(paths) if leases.try_take(f"{path}.lease")]
        made |= _made(paths, free, compute)
    rest = [place for place in range(len(paths)) if place not in made]
    if rest:
        with lease.held(*(f"{paths[place]}.lease" for place in rest)):
            made |= _made(paths, rest, compute)
    return [made[place] for place in range(len(paths))]


def _made(
    paths: Sequence[str], places: Sequence[int], compute: Callable[[list[int]], Iterable[tuple[int, Made]]]
) -> dict[int, tuple[Entry, bool]]:
    """The entries at some places, and whether each was there; else what `compute` gives, written there."""
    made = {place: (entry, True) for place in places if (entry := find(paths[place]))}
    lacking = [place for place in places if place not in made]
    for place, tables in compute(lacking) if lacking else ():
        made[place] = put(paths[place], *tables), False
    return made
