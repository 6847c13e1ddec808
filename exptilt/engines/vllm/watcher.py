"""Runs a command as a child, and ends it with all its processes once standard input is closed.

A run starts this script with a pipe as standard input whose other end only the run has, so that a server
ends with it, also when it is killed. The script leads a process group and needs nothing but Python. Its
first argument is the log that it writes to, which stays where the command ended by itself.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

LOOK_SECONDS = 0.2  # between looks at whether the command has ended
GRACE_SECONDS = 10.0  # that it has to end by itself


def main() -> None:
    """Run the command of the arguments; when it ends, or has to, the whole group ends."""
    log, *words = sys.argv[1:]
    command = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while command.poll() is None:
        if _is_closed():
            os.unlink(log)
            break
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _is_closed() -> bool:
    """Whether standard input is; waits a little for it."""
    ready, _, _ = select.select([0], [], [], LOOK_SECONDS)
    return bool(ready) and not os.read(0, 1)


if __name__ == "__main__":
    main()
