"""The Prefect server that a run relies on: asked for before anything starts, and watched until the end."""

import os
import sys
import threading
import time
from contextvars import copy_context
from typing import Literal

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from exptilt.errors import ConfigError
from exptilt.run import current

ASK_SECONDS = 10.0
EVERY = 5.0  # seconds between looks
LOST = 60.0  # seconds without an answer after which a run ends; a server that is restarted is back by then
GRACE = 2.0


def check_server() -> None:
    """Raise ConfigError, of one line, unless the configured server answers and lets us in."""
    try:
        status = _ask("/admin/version")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ConfigError(
            f"no Prefect server answers at PREFECT_API_URL={_address()} ({reason}): start it, or unset the "
            "variable and the run starts its own"
        ) from error
    if status in (401, 403):
        raise ConfigError(
            f"the Prefect server at {_address()} refuses us: PREFECT_API_AUTH_STRING or PREFECT_API_KEY "
            "is missing or wrong"
        )
    if status != 200:
        raise ConfigError(f"no Prefect server: PREFECT_API_URL={_address()} answers {status}")


def watch_server() -> None:
    """From now on, end this process with 1 and one line once the server is gone for LOST seconds.

    The steps of the current run are asked to stop before.
    """
    threading.Thread(target=copy_context().run, args=(_watch,), daemon=True).start()


def _watch() -> None:
    last = time.monotonic()
    while time.monotonic() - last < LOST:
        time.sleep(min(EVERY, LOST / 3))
        if server_is_there():
            last = time.monotonic()
    current().stop()
    time.sleep(GRACE)  # steps put away what they hold
    print(f"error: {lost()}", file=sys.stderr, flush=True)
    os._exit(1)


def lost() -> str:
    """The error line for a server that is gone."""
    return (
        f"the Prefect server at {_address()} does not answer any more; finished shards are saved, run the "
        "same command to go on"
    )


def server_is_there() -> bool:
    """Whether the server answers now."""
    try:
        return _ask("/health") < 500
    except httpx.HTTPError:
        return False


def _ask(path: Literal["/admin/version", "/health"]) -> int:
    with get_client(sync_client=True, httpx_settings={"timeout": ASK_SECONDS}) as client:
        try:
            return int(client.request("GET", path).status_code)
        except httpx.HTTPStatusError as error:
            return error.response.status_code


def _address() -> str:
    """The server's address without the user and password that it may hold."""
    return str(httpx.URL(str(get_current_settings().api.url)).copy_with(userinfo=b""))
