"""Stopping soon: one flag that long loops look at, set by Ctrl-C and SIGTERM."""

import threading

from exptilt.errors import Stopped

_asked = threading.Event()


def ask() -> None:
    """Ask every running step of this process to stop at its next check."""
    _asked.set()


def clear() -> None:
    """Forget an earlier request, before a new run in the same process."""
    _asked.clear()


def check() -> None:
    """Raise Stopped if a stop was asked for."""
    if _asked.is_set():
        raise Stopped("stopped by the user; finished shards are saved, run again to go on")
