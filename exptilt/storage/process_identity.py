"""Which process holds something, written so that another can tell whether that process has died.

A process is its machine, boot, PID namespace, number and start time: a number alone is given out again, and
two containers may both have it.
"""

import hashlib
import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")  # without it, a process is its machine and number
START_TIME: Final = 19  # its place in /proc/PID/stat, counted behind the name


def me() -> dict[str, Any]:
    """This process."""
    return {**_here(), "pid": os.getpid(), "born": _born(os.getpid())}


def token() -> str:
    """This process as a part of a file's name."""
    said = me()
    return "_".join([said["machine"], said["boot"][:8], said["space"][5:-1], str(said["pid"]), said["born"]])


def token_is_dead(text: str) -> bool:
    """Whether the process of a token has died for sure."""
    here, parts = token().split("_"), text.split("_")
    if len(parts) != len(here) or parts[0] != here[0] or not parts[3].isdecimal():
        return False
    if parts[1] != here[1]:
        return True
    return parts[2] == here[2] and not (_runs(int(parts[3])) and _born(int(parts[3])) == parts[4])


def is_dead(holder: Any) -> bool:
    """Whether `holder`, as `me` described it, has died for sure: it was on this machine and is no more."""
    try:
        there = {name: holder[name] for name in _here()}
        pid, born = int(holder["pid"]), holder["born"]
    except (KeyError, TypeError, ValueError):
        return False
    here = _here()
    if there["machine"] != here["machine"]:
        return False
    if there["boot"] != here["boot"]:
        return True
    return there == here and not (_runs(pid) and _born(pid) == born)


@lru_cache(maxsize=1)
def _here() -> dict[str, str]:
    name = f"{socket.gethostname()}/{_read(Path('/etc/machine-id'))}"
    return {
        "host": socket.gethostname(),
        "machine": hashlib.blake2b(name.encode(), digest_size=8).hexdigest(),
        "boot": _read(PROC / "sys/kernel/random/boot_id"),
        "space": os.readlink(PROC / "self/ns/pid") if (PROC / "self/ns/pid").is_symlink() else "",
    }


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When process `pid` started, in ticks since the machine's boot; empty where it is not known, or for one
    that has ended and waits for its parent to notice."""
    said = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return said[START_TIME] if said and said[0] != "Z" else ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
