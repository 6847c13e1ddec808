"""A Prefect server for one run, where none is configured: started early, gone with the run.

It boots while the run's models load, stays outside the run's memory, and ends when the run's process
does, also after a kill -9: it reads from a pipe that closes then.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from exptilt.errors import StorageError
from tasks.runtime.server_health import check_server

START_SECONDS: Final = 120.0
SETTINGS: Final = {  # of the started server, where the environment has no others
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # in batches SQLite keeps up with hundreds of tasks; else finished tasks stay Running in its database
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


@contextlib.contextmanager
def server() -> Iterator[Callable[[], None]]:
    """Let Prefect's settings name a server within the block: the configured one, else one started for it.

    Gives a function that waits until it answers. A started one that was waited for ends with this process and
    not with the block, since Prefect sends its last log lines at exit.

    Raises:
        ConfigError: where the configured one does not answer.
    """
    if get_current_settings().api.url:
        check_server()
        yield lambda: None
        return
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port, started = bound.getsockname()[1], _started(bound)
    used = threading.Event()

    def wait() -> None:
        used.set()
        _wait(port, started)

    try:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            yield wait
    finally:
        if not used.is_set():
            started.kill()
            started.wait()


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


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    raise StorageError("Prefect's server did not start; set PREFECT_API_URL to one that runs")


def _end_with_parent() -> None:
    """Read until the run's process closes the pipe, which its death does, too."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve on the socket whose file descriptor is given, without the UI."""
    import uvicorn
    from prefect.server.api.server import create_app

    os.nice(10)  # it answers while the models leave a core free
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
