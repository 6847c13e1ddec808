"""Deleting what no output refers to: never what a run at work may hold, nor what is not the pool's."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.filesize import decimal

from exptilt.errors import StorageError
from exptilt.reports.terminal import print_facts, print_table
from exptilt.storage import filesystem, inventory, lease, pool
from exptilt.storage.inventory import Folder
from exptilt.storage.paths import is_local
from exptilt.upkeep import contents, references, text
from exptilt.upkeep.contents import Totals
from exptilt.upkeep.references import References
from exptilt.wording import counted

DAY: Final = 86_400.0
HEADINGS: Final = ["model", "settings", "stage", "entries", "size", "written"]
ELSEWHERE: Final = (
    "outputs that were moved or copied to another place are not known here: what only they refer to is "
    "listed, too. They stay readable without it"
)
Group = tuple[str, str, str]  # a model, its settings, a stage


@dataclass(slots=True)
class _Plan:
    """What can go, added up, and what stays."""

    groups: dict[Group, Totals] = field(default_factory=dict)
    gone: Totals = field(default_factory=Totals)
    kept: Totals = field(default_factory=Totals)
    young: Totals = field(default_factory=Totals)


def prune(root: str, days: float, deletes: bool, console: Console) -> None:
    """Print what no output under `root` refers to, and delete it if asked to.

    Args:
        root: the save directory.
        days: what was written in so many days stays.
        deletes: whether it is deleted, or only listed.
        console: where it is printed.

    Raises:
        StorageError: it is not known what a manifest refers to, or a run is at work.
    """
    known = references.find(root)
    _check_known(known)
    if deletes:
        _check_idle(root)
    now = filesystem.store_time(filesystem.join(root, pool.POOL)) if deletes else time.time()
    plan = _Plan()
    for folder in _unreferenced(root, known, now - days * DAY, plan):
        if deletes:
            _check_idle(root, plan.gone)
            _delete(folder)
        _enter(plan, folder)
    _show(plan, known, days, deletes, console)


def _check_known(known: References) -> None:
    if known.unreadable:
        first, *more = known.unreadable
        others = f" (and {len(more):,} more)" if more else ""
        raise StorageError(f"it is not known what an output refers to: {first}{others}; mend or remove it")


def _check_idle(root: str, gone: Totals | None = None) -> None:
    """Raise StorageError where a run is at work on the pool."""
    stages = ("runs",) if gone else inventory.NOTES  # runs of older versions hold their shards alone
    held = next((path for path in inventory.leases(root, stages) if lease.is_held(path)), None)
    if held:
        done = f"{_sizes(gone)} deleted, the rest stays" if gone else "nothing is deleted"
        raise StorageError(f"a run is at work on this pool ({held}): {done}; prune again when it has ended")


def _unreferenced(root: str, known: References, before: float, plan: _Plan) -> Iterator[Folder]:
    """The folders that can go: not referred to, of before a moment, held by none. Others are added up."""
    for folder in inventory.walk(root):
        if not isinstance(folder, Folder) or not folder.own or folder.error:
            continue
        if known.of(folder):
            plan.kept.add(folder)
        elif folder.modified > before or _is_held(folder):
            plan.young.add(folder)
        else:
            yield folder


def _is_held(folder: Folder) -> bool:
    return lease.is_held(f"{folder.path}.lease")


def _enter(plan: _Plan, folder: Folder) -> None:
    origin = contents.origin_of(folder)
    state = "" if folder.entry else ", damaged" if folder.has_manifest else ", unfinished"
    named = (text.name(origin), ", ".join(text.settings(origin))) if origin else ("", "")
    group = (*named, f"{folder.stage}{state}")
    plan.groups.setdefault(group, Totals()).add(folder)
    plan.gone.add(folder)


def _delete(folder: Folder) -> None:
    """Remove an entry: its manifest first, without which it counts as absent, then its tables."""
    for item in sorted(folder.own, key=lambda item: item.name != pool.MANIFEST):
        filesystem.remove(filesystem.join(folder.path, item.name))
    if is_local(folder.path):
        _remove_empty(Path(folder.path), folder.name.count("/"))


def _remove_empty(folder: Path, levels: int) -> None:
    """Remove `folder`, and those above it up to the stage's, where nothing is left in them."""
    with suppress(OSError):
        for _ in range(levels):
            folder.rmdir()
            folder = folder.parent


def _show(plan: _Plan, known: References, days: float, deleted: bool, console: Console) -> None:
    if plan.groups:
        rows = [
            [*group, f"{totals.entries:,}", decimal(totals.size), text.written(totals, time.time())]
            for group, totals in sorted(plan.groups.items())
        ]
        print_table(HEADINGS, rows, console, left=(1, 2))
    print_facts(list(_facts(plan, known, days, deleted)), console)


def _facts(plan: _Plan, known: References, days: float, deleted: bool) -> Iterator[tuple[str, str]]:
    yield "deleted" if deleted else "can go", f"{_sizes(plan.gone)}, which no output refers to"
    yield "kept", f"{_sizes(plan.kept)}, which {counted(len(known.outputs), 'output')} refer to"
    if plan.young.entries:
        last = f"written in the last {_days(days)} (--days), or held by a run"
        yield "kept", f"{_sizes(plan.young)}, {last}"
    old = [output for output in known.outputs if output.entries is None]
    if old:
        said = f"{counted(len(old), 'output')} of an older version, which name no entries"
        yield "note", f"{said}: all of their models is kept. Run their commands again to name them"
    yield "note", ELSEWHERE
    if not deleted and plan.gone.entries:
        yield "note", "nothing is deleted: --prune --yes does it"


def _days(days: float) -> str:
    return counted(int(days), "day") if days == int(days) else f"{days:g} days"


def _sizes(totals: Totals) -> str:
    return f"{counted(totals.entries, 'entry', 'entries')}, {decimal(totals.size)}"
