"""Deaths: how often a process died while it had a shard, so that one which ends every process is given up.

A death counts where its machine computed another shard since the shard's first one: then the machine is
sound; without that it takes many more. A process that was asked to stop before it died counts as none.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from exptilt.errors import MissingError, ShardGivenUp
from exptilt.stages.workspace import Workspace
from exptilt.storage import filesystem, process_identity

MOST: Final = 3
MOST_ANYWHERE: Final = 20  # on machines that have computed nothing else since


def note(claim: str, holder: dict[str, Any], at: float) -> None:
    """Note that `holder` died with the shard of `claim`; it was last alive at `at` by the store's clock."""
    died = {"machine": holder["machine"], "host": holder["host"], "at": at}
    filesystem.write_json(_path(claim), [*_noted(claim), died])


def check(workspace: Workspace, claim: str) -> None:
    """Raise ShardGivenUp where the shard of `claim` has ended MOST processes of sound machines."""
    noted = _noted(claim)
    counting = [died for died in noted if _computed(workspace, died["machine"]) > noted[0]["at"]]
    if len(counting) >= MOST or len(noted) >= MOST_ANYWHERE:
        raise ShardGivenUp(
            f"given up: {len(noted)} processes died while they had it (on {_hosts(noted)}). Look for what "
            f"ended them (memory: a smaller --batch-size); then remove {_path(claim)} and run again"
        )


def _hosts(noted: Sequence[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(died["host"] for died in noted))


def forget(claim: str) -> None:
    """The shard of `claim` is done."""
    filesystem.remove(_path(claim))


def note_computed(workspace: Workspace) -> None:
    """Note that this machine computed something."""
    me = process_identity.me()
    filesystem.write_json(_mark(workspace, me["machine"]), me["host"])


def _computed(workspace: Workspace, machine: str) -> float:
    """When `machine` last computed something, by the store's clock."""
    try:
        return filesystem.modified(_mark(workspace, machine))
    except MissingError:
        return 0.0


def _mark(workspace: Workspace, machine: str) -> str:
    return f"{workspace.path('claims', machine)}.computed"


def _noted(claim: str) -> list[dict[str, Any]]:
    try:
        return [dict(died) for died in json.loads(filesystem.read_bytes(_path(claim)))]
    except (MissingError, ValueError, TypeError):
        return []


def _path(claim: str) -> str:
    return f"{claim.removesuffix('.lease')}.deaths"
