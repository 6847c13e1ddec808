"""A flow from the command line: checks first, quiet in between, a summary and an exit code at the end."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol, cast

from prefect import Flow, tags
from prefect.client.schemas.objects import State
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings
from pydantic import BaseModel

from exptilt.config.command_line import FAILED, fail, fail_run
from exptilt.config.validation import C
from exptilt.errors import ExptiltError, PushFailed
from exptilt.planning.plan import prepare as prepare_run
from exptilt.reports.terminal import console, show, show_saved
from tasks.runtime.cluster import planned
from tasks.runtime.flow import TAG, prepared
from tasks.runtime.recording import wait_until_recorded
from tasks.runtime.server import server
from tasks.runtime.server_health import lost, server_is_there, watch_server
from tasks.runtime.server_process import ServerProcess
from tasks.runtime.shutdown import ending_soon

PREPARE: Any = prepare_run


class Ready(Protocol):
    """A checked plan, as far as the command line prints it."""

    @property
    def opening(self) -> str:
        """The run in one line."""
        ...


def launch(
    flow: Flow[..., Any],
    config: C,
    begun: ServerProcess | None = None,
    prepare: Callable[..., Ready] = PREPARE,
) -> NoReturn:
    """Run `flow` with `config` from the command line, and exit.

    Exit codes: 0, 1 (failed), 2 (bad input), 130 (Ctrl-C) or 143 (SIGTERM).

    `begun` is a server that boots already; `prepare` checks the configuration, and raises ExptiltError.
    """
    with ending_soon():
        outcome = _checked_and_run(flow, config, begun, prepare)
    if isinstance(outcome, PushFailed):
        show_saved(outcome)
    if isinstance(outcome, BaseException):
        fail_run(outcome)
    show(outcome, console())
    sys.exit(getattr(outcome, "exit_code", 0))


def _checked_and_run(
    flow: Flow[..., Any], config: C, begun: ServerProcess | None, prepare: Callable[..., Ready]
) -> Any:
    with contextlib.ExitStack() as settings:
        try:
            server_answers = settings.enter_context(server(begun))
            plan = planned(prepare, config)
            print(plan.opening, file=sys.stderr, flush=True)
            server_answers()
            watch_server()
        except ExptiltError as error:
            fail(str(error))
        return _watched(prepared(flow, config, plan), config)


def _watched(flow: Flow[..., Any], config: BaseModel) -> Any:
    """As _run; a server that is gone ends the process with one line."""
    with quiet_console():
        try:
            return _run(flow, config)
        except Exception:
            if not server_is_there():
                fail(lost(), FAILED)
            raise


def _run(flow: Flow[..., Any], config: BaseModel) -> Any:
    """The flow's summary, or what it failed with."""
    with tags(TAG), _heartbeats_if_asked():
        state = cast(State[Any], flow(**config.model_dump(), return_state=True))
    if state.state_details.flow_run_id:
        wait_until_recorded(state.state_details.flow_run_id)
    return state.result(raise_on_failure=False)


def _heartbeats_if_asked() -> contextlib.AbstractContextManager[Any]:
    """Send heartbeats only where a setting asks for them: stopping them takes a run up to a second."""
    asked = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
    return temporary_settings({} if asked else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


@contextlib.contextmanager
def quiet_console() -> Iterator[None]:
    """Keep Prefect's log lines for its server: the terminal shows progress and outcome.

    Also where the server is gone, which `watch_server` says once.
    """
    logging.raiseExceptions = False
    for handler in {h for log in _loggers() for h in log.handlers if _is_console(log, h)}:
        handler.setLevel(logging.CRITICAL + 1)
    yield


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in ("prefect", *logging.root.manager.loggerDict)]


def _is_console(log: logging.Logger, handler: logging.Handler) -> bool:
    """Whether `handler` writes Prefect's log lines to the terminal; those that send to its server do not."""
    plain = type(handler) is logging.StreamHandler and log.name.startswith("prefect")
    return plain or isinstance(handler, PrefectConsoleHandler)
