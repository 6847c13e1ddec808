"""Ending on a signal: Ctrl-C and SIGTERM ask the running steps to stop, and the run ends with one line."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from prefect.exceptions import TerminationSignal

from exptilt.run import Run, current

SAVED = "error: stopped; finished shards are saved, run the same command to go on"
GRACE = 4.0  # seconds that a step has to notice
_alone = threading.Event()  # set where this process runs one flow of the command line, and may end with it
_signals: list[int] = []  # that reached it
_printed = threading.Event()


@contextlib.contextmanager
def stopping_at_once(run: Run) -> Iterator[None]:
    """Where a signal ends a flow's body, ask the steps of `run` to stop before Prefect waits for them.

    A flow of the command line takes SIGTERM itself; elsewhere it stays with Prefect, which tells an eviction
    from a cancellation by it.
    """
    if _alone.is_set():
        signal.signal(signal.SIGTERM, _end)
    with run.entered():
        yield


@contextlib.contextmanager
def ending_soon() -> Iterator[None]:
    """End this process with one line and 130 (Ctrl-C) or 143 (SIGTERM) where a signal ends the block.

    A step that does not check for it, such as a user's function, has GRACE seconds to return.
    """
    _alone.set()
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Run().entered():  # the runs that begin in it stop with it
            yield
    except (KeyboardInterrupt, TerminationSignal):
        pass
    finally:
        _alone.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
    if _signals:
        _print_once()
        sys.exit(128 + _signals[0])


def _end(number: int, frame: FrameType | None) -> None:
    """Ask the steps to stop, raise, and end the process later where the exception is swallowed.

    A second signal would break off what gives the run's shards back.
    """
    if _signals:
        return
    current().stop()
    _signals.append(number)
    threading.Thread(target=_end_late, daemon=True).start()
    raise KeyboardInterrupt if number == signal.SIGINT else TerminationSignal(signal=number)


def _end_late() -> None:
    time.sleep(GRACE)
    _print_once()
    os._exit(128 + _signals[0])


def _print_once() -> None:
    if not _printed.is_set():
        _printed.set()
        print(SAVED, file=sys.stderr, flush=True)
