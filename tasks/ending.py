"""Ending on a signal: Ctrl-C and SIGTERM ask the running steps to stop, and the run ends with one line."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from prefect.exceptions import TerminationSignal

from exptilt import stop

SAVED = "error: stopped; finished shards are saved, run the same command to go on"
GRACE = 4.0  # seconds that a step has to notice
INTERRUPTED, TERMINATED = 130, 143
_alone = threading.Event()  # this process is one run's, and may end with it
_said = threading.Event()


class Terminated(BaseException):
    """SIGTERM reached this process."""


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Where a signal ends a flow's body, ask its steps to stop before Prefect waits for them."""
    stop.clear()
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal) as error:
        stop.ask()
        if _alone.is_set():
            threading.Thread(target=_end_late, args=(_code(error),), daemon=True).start()
        raise


@contextlib.contextmanager
def ending_soon() -> Iterator[None]:
    """End this process with one line and 130 or 143 where Ctrl-C or SIGTERM ends the block.

    A step that does not notice, such as a user's function, has GRACE seconds to come back.
    """
    _alone.set()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it off
    try:
        yield
    except (KeyboardInterrupt, Terminated, TerminationSignal) as error:
        _say()
        sys.exit(_code(error))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _code(error: BaseException) -> int:
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else TERMINATED


def _say() -> None:
    if not _said.is_set():
        _said.set()
        print(SAVED, file=sys.stderr, flush=True)


def _end_late(code: int) -> None:
    time.sleep(GRACE)
    _say()
    os._exit(code)
