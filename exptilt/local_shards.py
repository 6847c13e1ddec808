"""The shards of a run in one process: claimed one after the other, a thread for each device, and watched."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from exptilt.errors import Stopped
from exptilt.stages.claims import Claims
from exptilt.stages.failures import AllMissing
from exptilt.stages.outcomes import results
from exptilt.stages.workspace import Workspace

T = TypeVar("T")
R = TypeVar("R")


class Watcher(Protocol):
    """Is told which shards begin and end, by their places, from the threads that do them."""

    def began(self, place: int) -> None: ...

    def ended(self, place: int, outcome: Any) -> None: ...


class Silent:
    """Shows nothing."""

    def began(self, place: int) -> None:
        """Nothing is shown."""

    def ended(self, place: int, outcome: Any) -> None:
        """Nothing is shown."""


def each(
    claimed: Claims, shards: Sequence[T], work: Callable[[T], R], watcher: Watcher
) -> list[R | AllMissing]:
    """What `work` gives for every shard, AllMissing where all prompts of one are left out.

    Runs that share the root take different shards while there are any.
    """
    with claimed, _threads(claimed.workspace) as start:
        ends = [start(_next, claimed, shards, work, watcher) for _ in shards]
        outcomes = dict(end() for end in ends)
    return results([outcomes[place] for place in range(len(shards))])


def _next(
    claimed: Claims, shards: Sequence[T], work: Callable[[T], R], watcher: Watcher
) -> tuple[int, R | Exception]:
    """Take a shard; its place, and what `work` gives for it or failed with."""
    with claimed.next() as place:
        watcher.began(place)
        outcome = outcome_of(partial(_alive, claimed, place, work), shards[place])
        watcher.ended(place, outcome)
        return place, outcome


def _alive(claimed: Claims, place: int, work: Callable[[T], R], shard: T) -> R:
    """What `work` gives for a shard, unless processes die at it, one after the other."""
    claimed.check(place)
    done = work(shard)
    claimed.forget_deaths(place)
    return done


@contextmanager
def _threads(workspace: Workspace) -> Iterator[Callable[..., Callable[[], Any]]]:
    """Start work in a thread for each device; it gives a function that waits for the result.

    A single thread is the caller's, which works when it waits: Ctrl-C then ends also a step that never checks
    for a stop.
    """
    if len(workspace.devices) == 1:
        yield partial
        return
    pool = ThreadPoolExecutor(len(workspace.devices), "shard")
    try:
        yield lambda *work: pool.submit(*work).result
    except BaseException as error:
        if not isinstance(error, Exception):
            workspace.run.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def outcome_of(work: Callable[[T], R], shard: T) -> R | Exception:
    """What `work` gives for the shard, or what it failed with."""
    try:
        return work(shard)
    except Stopped:
        raise
    except Exception as error:
        return error
