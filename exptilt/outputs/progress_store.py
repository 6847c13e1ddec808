"""How far runs are, as the store has it: small files beside the pool, each written by who did the work.

Under pool/progress a configuration has a file of what is planned, one for each shard that has ended, and one
for each process, which that writes anew while it lives. All go once the configuration has its outputs.
"""

import re
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from exptilt.errors import MissingError
from exptilt.reports.shard_figures import ShardFigures
from exptilt.reports.standing import Facts, Process, Standing
from exptilt.storage import filesystem, pool, process_identity
from exptilt.storage.filesystem import Stamp

FOLDER, PLAN, SHARD, PROCESS = "progress", "plan", "shard", "process"
FILE: Final = re.compile(rf"([0-9a-f]+)\.({PLAN}|{SHARD}|{PROCESS})-(\w+)\.json")
STALE: Final = 100.0  # seconds; a process that lives writes anew every 30 or so
M = TypeVar("M", bound=BaseModel)


def _path(root: str, key: str, kind: str, name: str) -> str:
    return pool.place(root, FOLDER, f"{key}.{kind}-{name}.json")


def write_facts(root: str, key: str, facts: Facts) -> None:
    """Say what is planned, where nobody has."""
    path = _path(root, key, PLAN, "1")
    if _read(path, Facts) is None:
        _write(path, facts)


def keep_shard(root: str, key: str, place: int, figures: ShardFigures) -> ShardFigures:
    """Keep the figures of a shard that has ended; gives those that are kept.

    A run that found all of it in the pool leaves the figures of the one that computed it.
    """
    path = _path(root, key, SHARD, f"{place:05d}")
    if not (figures.failed or figures.drawn or figures.rewards):
        there = _read(path, ShardFigures)
        if there and not there.failed:
            return there
    _write(path, figures)
    return figures


def write_process(root: str, key: str, name: str, process: Process) -> None:
    """Say what a process does now."""
    _write(_path(root, key, PROCESS, name), process)


def forget(root: str, key: str) -> None:
    """Remove all that is said of a configuration."""
    folder = pool.place(root, FOLDER)
    for name in filesystem.names(folder):
        if name.startswith(f"{key}."):
            filesystem.remove(filesystem.join(folder, name))


def _write(path: str, said: BaseModel) -> None:
    filesystem.write_bytes(path, said.model_dump_json(exclude_defaults=True).encode())


def _read(path: str, model: type[M]) -> M | None:
    """What the file at `path` says; None without one, or where it is not of this kind."""
    try:
        return model.model_validate_json(filesystem.read_bytes(path))
    except (MissingError, ValidationError):
        return None


@dataclass(slots=True)
class _Known:
    """A configuration as it was read last, and the stamps of the files that were."""

    standing: Standing
    stamps: dict[str, Stamp] = field(default_factory=dict)


class Progress:
    """All configurations under a root; each file is read once, and again when it was written anew."""

    def __init__(self, root: str) -> None:
        self.folder = pool.place(root, FOLDER)
        self._known: dict[str, _Known] = {}

    def look(self) -> dict[str, Standing]:
        """How far each configuration is now, by its key; one listing, and what is new."""
        listed: dict[str, dict[str, Stamp]] = {}
        for name, stamp in filesystem.stamps(self.folder).items():
            if match := FILE.fullmatch(name):
                listed.setdefault(match[1], {})[name] = stamp
        times = [stamp.modified for files in listed.values() for stamp in files.values()]
        now = max(times, default=0.0)  # by the store's clock: who looks has just written
        found = {key: self._updated(key, files, now) for key, files in sorted(listed.items())}
        self._known = {key: known for key, known in found.items() if known}
        return {key: known.standing for key, known in self._known.items()}

    def _updated(self, key: str, files: dict[str, Stamp], now: float) -> _Known | None:
        """A configuration with what is new of it; None where nobody says what is planned."""
        known = self._known.get(key) or self._first(files)
        if known is None:
            return None
        for name in (name for name, stamp in files.items() if known.stamps.get(name) != stamp):
            self._read(known.standing, name)
            known.stamps[name] = files[name]
        fresh = {_named(name) for name, stamp in files.items() if now - stamp.modified < STALE}
        known.standing.alive = {
            name
            for name, process in known.standing.processes.items()
            if name in fresh and not process.has_ended and not process_identity.is_dead(process.holder)
        }
        return known

    def _first(self, files: dict[str, Stamp]) -> _Known | None:
        plans = (name for name in files if f".{PLAN}-" in name)
        facts = next((_read(filesystem.join(self.folder, name), Facts) for name in plans), None)
        return _Known(Standing(facts=facts)) if facts else None

    def _read(self, standing: Standing, file: str) -> None:
        """Enter what a file says."""
        path, name = filesystem.join(self.folder, file), _named(file)
        if f".{PROCESS}-" in file and (process := _read(path, Process)):
            standing.processes[name] = process
        is_shard = f".{SHARD}-" in file and name.isdecimal() and int(name) < len(standing.facts.prompts)
        if is_shard and (figures := _read(path, ShardFigures)):
            standing.shards[int(name)] = figures


def _named(file: str) -> str:
    """The shard or the process that a file is of."""
    return file.partition("-")[2].removesuffix(".json")
