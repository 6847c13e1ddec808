"""The process of a run's own Prefect server, which boots while the run's process still loads Prefect.

It ends when the run's process does, also after a kill -9: it reads from a pipe that closes then.
"""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

SETTINGS: Final = {  # of the started server, where the environment has no others
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # in batches SQLite keeps up with hundreds of tasks; else finished tasks stay Running in its database
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that boots or serves, and its port on this machine."""

    port: int
    process: "subprocess.Popen[bytes]"

    def end(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()


def begun() -> ServerProcess | None:
    """A server's process, for a run that is about to load Prefect; None where the environment names a server.

    Where another of Prefect's settings names one, `server` ends it.
    """
    return None if os.environ.get("PREFECT_API_URL") else start()


def start() -> ServerProcess:
    """A server's process, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return ServerProcess(bound.getsockname()[1], _started(bound))


def _started(bound: socket.socket) -> "subprocess.Popen[bytes]":
    """A server on the port that `bound` holds, which nothing else can take meanwhile; in a session of its
    own, so that Ctrl-C is for the run alone."""
    fd = bound.fileno()
    until_it_closes, _ = os.pipe()  # the end that only this process has is never closed before its death
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.runtime.server", str(fd)],
            stdin=until_it_closes,
            env={**SETTINGS, **os.environ},
            start_new_session=True,
            pass_fds=[fd],
        )
    finally:
        os.close(until_it_closes)
