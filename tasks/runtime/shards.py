"""The shards of a flow, one after the other: those that no other run holds, while a device is free."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture

from exptilt.errors import ShardGivenUp
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.rewards import RewardSpec
from exptilt.stages import claims
from exptilt.stages.claims import Claims
from exptilt.stages.outcomes import results
from exptilt.stages.references import SamplesRef
from exptilt.stages.score import AT_ONCE
from exptilt.storage import lease
from tasks.runtime.cluster import cluster
from tasks.runtime.progress import Watched, watched
from tasks.runtime.ray_runner import Submit, on_workers
from tasks.runtime.task import step

Line = list[PrefectFuture[Any]]  # the futures of one shard, in order
AHEAD = 2  # tasks of a cluster that are submitted at a time, for each worker
T = TypeVar("T")


def each_shard(plan: Plan, submit: Callable[[Any], Line], whole: Task[..., Any]) -> list[Any]:
    """The results of every shard's last task, in the order of the shards, drawn on a device each.

    Args:
        plan: its shards are given to `submit`, or what a file has of them.
        submit: starts the tasks of a shard.
        whole: the same in one task, for workers of a cluster.

    Returns:
        What the last tasks give, AllMissing for a shard of which nothing is left.

    Raises:
        ShardsFailed: lists every shard that failed, once all have ended.
    """
    recipe, shards = plan.recipe, plan.scored or plan.shards
    claimed, devices = claims.of_shards(recipe, plan.shards), len(recipe.devices)
    if recipe.config.runner == "threads":
        return _each(claimed, shards, submit, devices, devices * (1 + AT_ONCE), watched(plan))
    with _workers(recipe.config) as (start, ahead):
        begin = lambda shard: [start(whole, recipe=recipe, shard=shard)]  # noqa: E731
        return _each(claimed, shards, begin, ahead, ahead, watched(plan))


def each_value(plan: ScorePlan, score: Task[..., Any]) -> list[Any]:
    """The same of every shard of a file with every value, each scored by the one task `score`."""
    pairs = [(shard, spec) for shard in plan.shards for spec in plan.rewards]
    claimed = claims.of_values(plan.workspace, pairs)
    with _starting(plan) as (start, ahead):
        begin = lambda pair: [start(score, **_named(plan, *pair))]  # noqa: E731
        return _each(claimed, pairs, begin, ahead, ahead, watched(plan))


def _named(plan: ScorePlan, samples: SamplesRef, spec: RewardSpec) -> dict[str, Any]:
    return {"workspace": plan.workspace, "shard": samples.shard, "samples": samples, "spec": spec}


@contextmanager
def _starting(plan: ScorePlan) -> Iterator[tuple[Submit, int]]:
    """What starts a task of the plan, and how many of them go on at once."""
    if plan.config.runner == "threads":
        yield lambda task, /, **given: task.submit(**given), AT_ONCE * len(plan.workspace.devices)
        return
    with _workers(plan.config) as found:
        yield found


@contextmanager
def _workers(config: Any) -> Iterator[tuple[Submit, int]]:
    found = cluster(config)
    with on_workers(found) as start:
        yield start, AHEAD * found.workers


def _each(
    claimed: Claims,
    shards: Sequence[T],
    submit: Callable[[T], Line],
    at_once: int,
    held: int,
    progress: Watched,
) -> list[Any]:
    """The same of anything that can be claimed: `at_once` first tasks run at the same time, and `held` shards
    are not done at the same time; more would keep them from other runs."""
    lines: dict[int, Line] = {}
    begun, going, ended = set[Any](), dict[Any, int](), SimpleQueue[Any]()
    with claimed:
        while claimed.left or going:
            has_room = len(begun) < at_once and len(going) < held
            place = claimed.take() if claimed.left and has_room else None
            if place is not None:
                progress.began(place)
                line = lines[place] = _begin(claimed, place, shards, submit)
                begun.add(line[0])
                going[line[-1]] = place
                _tell(line, ended)
            elif future := _next_end(ended):
                begun.discard(future)
                if future in going:
                    place = going.pop(future)
                    _end(claimed, place, future)
                    progress.ended(place, _outcome(lines[place]))
            progress.tick()
    progress.end()
    return finished([lines[place] for place in range(len(shards))])


def _begin(claimed: Claims, place: int, shards: Sequence[T], submit: Callable[[T], Line]) -> Line:
    """The tasks of a shard, or one that fails where processes die at it, one after the other."""
    try:
        claimed.check(place)
    except ShardGivenUp as error:
        return [give_up.submit(f"{place + 1:03d}/{len(shards):03d}", error)]
    return submit(shards[place])


def _end(claimed: Claims, place: int, last: PrefectFuture[Any]) -> None:
    """A shard's last task has ended."""
    last.wait()  # else its state is what the server has heard so far
    if last.state.is_completed():
        claimed.forget_deaths(place)
    claimed.give_back(place)


def _give_up(name: str, error: ShardGivenUp) -> None:
    """Not begun: processes died at this shard, one after the other."""
    raise error


give_up = step(_give_up, "give up {name}")


def _tell(line: Line, ended: SimpleQueue[Any]) -> None:
    """Put the first and the last future of a shard into `ended` when they end, completed or failed."""
    for future in {line[0], line[-1]}:
        future.add_done_callback(ended.put)


def _next_end(ended: SimpleQueue[Any]) -> Any:
    """The next future that ends; None after a moment without one."""
    try:
        return ended.get(timeout=lease.POLL)
    except Empty:
        return None


def finished(lines: Sequence[Line]) -> list[Any]:
    """Wait for every shard; gives the results of the last tasks, as `each` does."""
    return results([_outcome(line) for line in lines])


def _outcome(line: Line) -> Any:
    """What a shard's last task gives, or the error of its first step that failed; waits for all of them."""
    for future in line:
        future.wait()  # else its state is what the server has heard so far
    return line[-1].result() if line[-1].state.is_completed() else _failure(line)


def _failure(line: Line) -> BaseException:
    """Why a shard failed: the error of its first step that did."""
    states = [future.state for future in line]
    for state in states:
        if state.is_failed() or state.is_crashed():
            error = state.result(raise_on_failure=False)
            return error if isinstance(error, BaseException) else RuntimeError(str(error))
    return RuntimeError(f"not run: {states[-1].message}")
