"""Whether every entry of a pool is as it was written: digests, rows, columns; what a run does where not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.filesize import decimal

from exptilt.errors import MissingError, StorageError
from exptilt.storage import filesystem, inventory, pool
from exptilt.storage.inventory import Folder
from exptilt.wording import counted

AGAIN: Final = {
    "prompts": "a run writes it again from its prompts",
    "samples": "a run draws it again, by the same seeds",
    "imported": "a run reads it again from the file",
    "counts": "a run counts again",
    "rewards": "a run scores it again",
    "draws": "a run resamples it again",
    "beginnings": "a run scores it again",
    "steered": "a run steers it again",
    "chains": "a run moves it again",
    "explored": "a run computes it again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An entry that was read: where, its bytes, and each fault as a path and what is wrong with it."""

    folder: Folder
    faults: tuple[tuple[str, str], ...]
    is_readable: bool = True

    @property
    def remedy(self) -> str:
        """What a run does about its faults."""
        return AGAIN[self.folder.stage] if self.is_readable else "a run stops there until it can be read"


def check(root: str) -> Iterator[Checked]:
    """Every entry of the pool under `root`, read whole; what was begun and not finished is none.

    Raises:
        StorageError: a folder cannot be listed.
    """
    for found in inventory.walk(root):
        if isinstance(found, Folder) and found.has_manifest:
            yield _checked(found)


def show(found: Iterator[Checked], console: Console) -> int:
    """Print what is wrong as it is found; the exit code, 1 where anything is."""
    entries = size = wrong = 0
    for checked in found:
        entries, size, wrong = entries + 1, size + checked.folder.size, wrong + bool(checked.faults)
        for path, fault in checked.faults:
            console.print(f"{path}: {fault}; {checked.remedy}", highlight=False, soft_wrap=True)
    good = "all as they were written" if not wrong else f"{wrong:,} damaged"
    console.print(
        f"{counted(entries, 'entry', 'entries')}, {decimal(size)}: {good}",
        style="yellow" if wrong else "green",
        highlight=False,
        soft_wrap=True,
    )
    return int(wrong > 0)


def _checked(folder: Folder) -> Checked:
    manifest = filesystem.join(folder.path, pool.MANIFEST)
    if folder.error:
        return Checked(folder=folder, faults=((manifest, folder.error),), is_readable=False)
    if folder.entry is None:
        return Checked(folder=folder, faults=((manifest, "not as it was written"),))
    faults, is_readable = [], True
    for name in folder.entry.files:
        fault, could_read = _fault(folder.entry, name)
        faults += [(folder.entry.file(name), fault)] if fault else []
        is_readable = is_readable and could_read
    return Checked(folder=folder, faults=tuple(faults), is_readable=is_readable)


def _fault(entry: pool.Entry, name: str) -> tuple[str, bool]:
    """What is wrong with a table, "" for nothing, and whether it could be read."""
    try:
        data = filesystem.read_bytes(entry.file(name))
    except MissingError:
        return "missing", True
    except StorageError as error:
        return str(error), False
    said = entry.files[name]
    if filesystem.sha256(data) != said["sha256"]:
        return _altered(len(data), said.get("bytes")), True
    try:
        rows, recorded = pool.loaded(name, data).height, said.get("rows")
    except StorageError as error:
        return str(error), True
    return ("" if recorded in (rows, None) else f"{rows:,} rows, and {recorded:,} were written"), True


def _altered(size: int, written: int | None) -> str:
    if written is not None and size != written:
        return f"altered: {size:,} bytes, and {written:,} were written"
    return "altered since it was written"
