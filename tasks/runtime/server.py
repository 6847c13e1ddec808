"""A Prefect server for one run, where none is configured: started early, gone with the run.

It boots while the run loads its libraries, and stays outside the run's memory (see server_process).
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from exptilt.errors import StorageError
from tasks.runtime.server_health import check_server
from tasks.runtime.server_process import ServerProcess, start

START_SECONDS: Final = 120.0


@contextlib.contextmanager
def server(begun: ServerProcess | None = None) -> Iterator[Callable[[], None]]:
    """Let Prefect's settings name a server within the block: the configured one, else one started for it.

    Gives a function that waits until it answers. A started one that was waited for ends with this process and
    not with the block, since Prefect sends its last log lines at exit.

    Args:
        begun: one that boots already, to be used unless another is configured; it is ended then.

    Raises:
        ConfigError: where the configured one does not answer.
    """
    if get_current_settings().api.url:
        if begun:
            begun.end()
        check_server()
        yield lambda: None
        return
    started = begun or start()
    used = threading.Event()

    def wait() -> None:
        used.set()
        _wait(started)

    try:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{started.port}/api"}):
            yield wait
    finally:
        if not used.is_set():
            started.end()


def _wait(started: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and started.process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{started.port}/api/health", timeout=5).status_code == 200:
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
