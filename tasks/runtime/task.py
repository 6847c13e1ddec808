"""What all tasks share: retries for what can pass, no result cache, and the Cached state."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from exptilt.run import current
from exptilt.stages import retries
from tasks.runtime.recording import started

R = TypeVar("R")


def _can_pass(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return retries.can_pass(state.result(raise_on_failure=False))


def step(function: Callable[..., Any], name: str) -> Task[..., Any]:
    """`function` as a Prefect task that is called `name`, a format string over its parameters."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        current().check()
        context = TaskRunContext.get()
        if context:
            started.add(context.task_run.id)
        return function(*args, **kwargs)

    return Task(
        run,
        task_run_name=name,
        retries=retries.RETRIES,
        retry_delay_seconds=exponential_backoff(retries.FIRST_SECONDS),
        retry_jitter_factor=retries.JITTER,
        retry_condition_fn=_can_pass,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def done(ref: R, cached: bool) -> Any:
    """`ref`, in the state Cached where the pool had it."""
    return Completed(name="Cached", data=ref, message="from the pool") if cached else ref
