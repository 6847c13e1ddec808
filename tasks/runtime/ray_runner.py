"""Shards as tasks of a Ray cluster: one task for each, by Prefect's runner."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import httpx
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Crashed

from tasks.runtime.cluster import Cluster
from tasks.runtime.recording import started, wait_until_recorded

DIED = "the workers that did it died, or the run ended before it"


class Submit(Protocol):
    """Starts a task with its parameters."""

    def __call__(self, task: Task[..., Any], /, **parameters: Any) -> PrefectFuture[Any]: ...


@contextlib.contextmanager
def on_workers(found: Cluster) -> Iterator[Submit]:
    """Submit tasks to the workers of the connected cluster, and have the server know what became of them."""
    from prefect_ray import RayTaskRunner

    submitted, ended = list[PrefectFuture[Any]](), set[PrefectFuture[Any]]()
    with RayTaskRunner() as runner:
        try:
            yield partial(_submit, runner, found, submitted, ended)
        finally:
            _record(submitted, ended)


def _submit(
    runner: Any,
    found: Cluster,
    submitted: list[PrefectFuture[Any]],
    ended: set[PrefectFuture[Any]],
    task: Task[..., Any],
    /,
    **parameters: Any,
) -> PrefectFuture[Any]:
    from prefect_ray.context import remote_options

    with remote_options(**found.options):
        future: PrefectFuture[Any] = runner.submit(task, parameters)
    submitted.append(future)
    future.add_done_callback(ended.add)
    return future


def _record(submitted: list[PrefectFuture[Any]], ended: set[PrefectFuture[Any]]) -> None:
    """Set the tasks Crashed that no worker could end; wait until the server has the ends of the others."""
    context = FlowRunContext.get()
    done = [future for future in submitted if future in ended and not future.state.is_crashed()]
    started.update(future.task_run_id for future in done)
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for future in submitted:
            if future not in done:
                with contextlib.suppress(httpx.HTTPError):
                    client.set_task_run_state(future.task_run_id, Crashed(message=DIED), force=True)
    ended_well = len(done) == len(submitted)
    if context and context.flow_run and ended_well and not wait_until_recorded(context.flow_run.id):
        _say_again(done)


def _say_again(done: list[PrefectFuture[Any]]) -> None:
    """Set last states that the server lacks: a worker that died behind its task may not have sent them."""
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for future in done:
            known = client.read_task_run(future.task_run_id).state
            if not (known and known.is_final()):
                client.set_task_run_state(future.task_run_id, future.state, force=True)
