"""Real processes for the tests: flows from the command line, a Prefect server and worker, an S3 server."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
FLOW = ROOT / "flows" / "mc_aligned.py"
NOISE = ("Traceback", "ERROR", "WARNING", "Warning", "warning", "Error")


def noise(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The lines of what was written that a good run does not write."""
    return [line for line in (done.stdout + done.stderr).splitlines() if any(word in line for word in NOISE)]


def told(output: str) -> list[str]:
    """The lines of what was written without how fast it was: a run that takes seconds shows its progress."""
    return [line for line in output.splitlines() if not re.match(r"generated|\d+/\d+ shards?\b", line)]


def free_port() -> int:
    """A port of loopback that the system gives to nobody else for a minute.

    The listening side closes a connection first, which leaves the port in TIME_WAIT: only who asks for it by
    number with SO_REUSEADDR, as servers do, gets it then.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()):
            listening.accept()[0].close()
        return int(listening.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server takes connections on `port` of loopback."""
    with socket.socket() as s:
        return s.connect_ex((host, port)) == 0


def environment(home: Path, **more: str) -> dict[str, str]:
    """This environment with a Prefect home of its own and no server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home), "COLUMNS": "160", **more}


def wait_until(happened: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing after {seconds} s")


@contextlib.contextmanager
def process(
    command: list[str], env: dict[str, str], log: Path, cwd: Path = ROOT
) -> Iterator[subprocess.Popen]:
    """A process in a session of its own, killed with all its children at the end."""
    with log.open("wb") as out:
        running = subprocess.Popen(
            command, env=env, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextlib.contextmanager
def prefect_server(home: Path, **more: str) -> Iterator[dict[str, str]]:
    """A Prefect server with an empty home and `more` settings; the environment that reaches it."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = environment(home, PREFECT_SERVER_API_PORT=str(port), DO_NOT_TRACK="1")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]

    def answers() -> bool:
        try:
            return httpx.get(f"{api}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    with process(command, {**env, **more}, home / "server.log"):
        wait_until(answers)
        yield {**env, "PREFECT_API_URL": api}


@contextlib.contextmanager
def s3_server(folder: Path, key: str = "key", secret: str = "secret-key") -> Iterator[dict[str, str]]:
    """A real S3 server over a folder with one bucket; the variables that reach it."""
    (folder / "bucket").mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        str(Path(sys.executable).parent / "rclone"),
        "serve",
        "s3",
        str(folder),
        "--auth-key",
        f"{key},{secret}",
    ]
    command += ["--addr", f"127.0.0.1:{port}"]
    with process(command, dict(os.environ), folder / "rclone.log"):
        wait_until(lambda: listens(port))
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def flow_command(*arguments: str, file: Path = FLOW) -> list[str]:
    return [sys.executable, str(file), *arguments]


def run_flow(
    *arguments: str, env: dict[str, str], cwd: Path, file: Path = FLOW, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """A flow from the command line, to its end."""
    command = flow_command(*arguments, file=file)
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
