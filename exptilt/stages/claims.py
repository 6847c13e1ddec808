"""Claims: which shard a run does next, so that runs of one configuration on one root share the work.

A run claims a shard by a lease, does it, and gives the lease back. It goes through its shards in an order of
its own, puts those that another run holds to the end, and waits only when these alone are left. A claim
divides the work and protects nothing: rows are the same without it (see storage.pool).
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from exptilt.errors import StorageError
from exptilt.rewards import RewardSpec
from exptilt.run import Run
from exptilt.stages import deaths
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.workspace import Workspace
from exptilt.storage import filesystem, keys, lease, pool, process_identity, s3, write_checks


class Claims:
    """The shards of a run that are not done, by their places; threads may share one."""

    def __init__(self, workspace: Workspace, paths: Sequence[str]) -> None:
        """`paths` are the shards' claims."""
        first = _own_number(len(paths))
        self._left: deque[int] = deque([*range(first, len(paths)), *range(first)])
        self.workspace, self._run = workspace, workspace.run
        self._paths, self._lock = paths, threading.Lock()
        with self._run.entered():
            self._leases = lease.Leases(deaths.note)

    def __enter__(self) -> Self:
        self._leases.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._run.entered():
            self._leases.__exit__(kind, error, trace)

    @property
    def left(self) -> int:
        """How many shards are still to be taken."""
        return len(self._left)

    def take(self) -> int | None:
        """A shard that no other run holds, which is ours now; None where others hold all that are left."""
        with self._lock, self._run.entered():
            for _ in range(len(self._left)):
                place = self._left.popleft()
                if self._claimed(self._paths[place]):
                    return place
                self._left.append(place)
        return None

    @contextmanager
    def next(self) -> Iterator[int]:
        """A shard for the length of the block; waits where others hold all that are left."""
        while (place := self.take()) is None:
            self._run.pause(lease.POLL)
        try:
            yield place
        finally:
            self.give_back(place)

    def check(self, place: int) -> None:
        """Raise ShardGivenUp where processes die at the shard, one after the other."""
        with self._run.entered(), suppress(StorageError), s3.retrying_for(write_checks.CHECK_SECONDS):
            deaths.check(self.workspace, self._paths[place])

    def give_back(self, place: int) -> None:
        """The shard has ended, done or failed."""
        with self._run.entered():
            self._leases.give_back(self._paths[place])

    def forget_deaths(self, place: int) -> None:
        """The shard is done."""
        with self._run.entered(), suppress(StorageError), s3.retrying_for(write_checks.CHECK_SECONDS):
            deaths.forget(self._paths[place])

    def _claimed(self, path: str) -> bool:
        """Whether no other run holds it; where the store does not say, the shard's steps will."""
        try:
            with s3.retrying_for(write_checks.CHECK_SECONDS):
                return self._leases.try_take(path)
        except StorageError:
            return True


@contextmanager
def at_work(run: Run, root: str) -> Iterator[None]:
    """Say in the pool under `root`, for the length of the block, that a run is at work: nothing is pruned."""
    with run.entered(), lease.held(f"{pool.place(root, 'runs', uuid4().hex)}.lease"):
        yield


def of_shards(recipe: Recipe, shards: Sequence[ShardRef]) -> Claims:
    """The claims on shards that are drawn; a run with another λ or other values has the same."""
    return Claims(recipe.workspace, _paths(recipe, shards))


def are_held(recipe: Recipe, shards: Sequence[ShardRef]) -> bool:
    """Whether a run works at any of the shards now."""
    return any(map(lease.is_held, _paths(recipe, shards)))


def of_values(at: Workspace, pairs: Sequence[tuple[SamplesRef, RewardSpec]]) -> Claims:
    """The claims on shards of a file that are scored, each with its value."""
    return Claims(at, [_path(at, {"prompts": _key(ref.shard), "value": spec.value}) for ref, spec in pairs])


def _paths(recipe: Recipe, shards: Sequence[ShardRef]) -> list[str]:
    made = {"p0": recipe.p0.identity if recipe.p0 else None, "seed": recipe.config.seed}
    return [_path(recipe.workspace, {**made, "prompts": _key(shard)}) for shard in shards]


def _key(shard: ShardRef) -> str:
    """The same on every machine, wherever it has the root."""
    return shard.prompts.rpartition("/")[2]


def _path(at: Workspace, said: dict[str, Any]) -> str:
    return f"{at.path('claims', keys.content_key(said))}.lease"


def _own_number(count: int) -> int:
    """A number under `count`, another one for each process."""
    digest = filesystem.sha256(process_identity.token().encode())
    return int(digest, 16) % count if count else 0
