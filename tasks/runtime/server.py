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
from collections.abc import Callable
from functools import lru_cache

import httpx
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from exptilt.errors import StorageError
from tasks.runtime.server_health import check_server

START_SECONDS = 120.0


@lru_cache(maxsize=1)
def start_server() -> Callable[[], None]:
    """Start a server unless one is configured; gives a function that waits until it answers.

    Raises ConfigError where the configured one does not answer. The started one ends with this process, since
    Prefect sends its last log lines at exit.
    """
    if get_current_settings().api.url:
        check_server()
        return lambda: None
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port, server = bound.getsockname()[1], _started(bound)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    return lambda: _wait(port, server)


def _started(bound: socket.socket) -> "subprocess.Popen[bytes]":
    """A server on the port that `bound` holds, so that nobody else takes it meanwhile; in a session of its
    own, so that Ctrl-C is for the run alone."""
    fd = bound.fileno()
    command = [sys.executable, "-m", "tasks.runtime.server", str(fd)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=[fd])


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
