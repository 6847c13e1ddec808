"""A server of vLLM for one model on one device of this machine, which ends with the run that started it."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from exptilt.engines.base import P0
from exptilt.engines.vllm import launch, watcher
from exptilt.errors import ModelError
from exptilt.run import current

SERVED_NAME: Final = "p0"
TRIES: Final = 3  # of a port, which another program may take between its choice and the start
LOOK_SECONDS: Final = 0.3
TELL_SECONDS: Final = 30.0  # to the first word of how far a start is; twice as long to each further one
ASK_SECONDS: Final = 5.0
END_SECONDS: Final = watcher.GRACE_SECONDS + 5.0
TAIL: Final = 64 * 1024  # bytes of the log that are looked at
WHO: Final = re.compile(r"\x1b\[[0-9;]*m|^\([^)]*\) |^(ERROR|WARNING|INFO) \S+ \S+ (\[[^]]*\] )?")
CAUSE: Final = re.compile(r"(?!.*root cause)[\w.]*(Error|Exception|Exit): \S.*")
TAKEN: Final = re.compile("address already in use", re.IGNORECASE)


class Server:
    """A server's process, by the script that watches over it."""

    def __init__(self, p0: P0, device: str, port: int) -> None:
        """Start it.

        Args:
            p0: what it draws from.
            device: where.
            port: of its API on loopback, which `key` opens.
        """
        assert p0.vllm
        self.name, self.version = f"vLLM {p0.vllm.version} on {device}", p0.vllm.version
        self.host, self.key = f"http://127.0.0.1:{port}", secrets.token_hex(16)
        self.began = time.monotonic()
        command = launch.command(p0, device, port, SERVED_NAME)
        with tempfile.NamedTemporaryFile(prefix="exptilt-vllm-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", watcher.__file__, log.name, *command],
                env=launch.environment(device, self.key),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def root(self) -> str:
        """Where its API is."""
        return f"{self.host}/v1"

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began

    @property
    def has_ended(self) -> bool:
        """Whether it has, with all its processes."""
        return self._watcher.poll() is not None

    @property
    def said(self) -> list[str]:
        """The last lines of its log, without colours and times."""
        with self.log.open("rb") as file:
            file.seek(max(self.log.stat().st_size - TAIL, 0))
            text = file.read().decode(errors="replace")
        lines = (WHO.sub("", WHO.sub("", line)).strip() for line in text.splitlines())
        return [line for line in lines if line]

    @property
    def death(self) -> str:
        """That it has ended, of what, and where its log is, in one line."""
        lines = self.said
        causes = [found[0] for found in map(CAUSE.search, lines) if found]
        cause = next(reversed(causes or lines), "it said nothing")
        return f"{self.name} ended: {cause[:300]} (its log: {self.log})"

    def wait(self) -> bool:
        """Whether it answers in the end, as opposed to ending; says how far it is.

        Raises Stopped where the run is asked to stop, ModelError where the server is of another version.
        """
        pause = TELL_SECONDS
        while not self.has_ended:
            if self._answers("/health") and self._answers("/v1/models"):
                self._check_version()
                _tell(f"{self.name} answers after {self.seconds:.0f} s")
                return True
            current().pause(LOOK_SECONDS)
            if self.seconds > pause:
                pause *= 2
                _tell(
                    f"{self.name}, after {self.seconds:.0f} s: {next(reversed(self.said), 'starting')[:80]}"
                )
        return False

    def _answers(self, path: str) -> bool:
        """Whether it does; another server that has its port does not have its key."""
        response = self._get(path)
        return response is not None and response.is_success

    def _get(self, path: str) -> Any:
        """The response to a request, None without one; no proxy is asked."""
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"}
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.host + path, headers=headers, timeout=ASK_SECONDS, trust_env=False)
        return None

    def _check_version(self) -> None:
        response = self._get("/version")
        said = response.json()["version"] if response is not None and response.is_success else self.version
        if said.partition("+")[0] != self.version.partition("+")[0]:
            raise ModelError(
                f"{self.name} says that it is {said}: --vllm-command names the vllm of one environment and "
                "starts that of another; give the path in the latter's bin"
            )

    def end(self) -> None:
        """End it with all its processes; the log of one that ended by itself stays."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._watcher.communicate(timeout=END_SECONDS)  # closes its standard input
        if not self.has_ended:
            os.killpg(self._watcher.pid, signal.SIGKILL)
            self._watcher.wait()


@contextlib.contextmanager
def started(p0: P0, device: str) -> Iterator[Server]:
    """A server that answers; it ends with the block.

    Raises ModelError where it does not start: what it said, and where its log is.
    """
    with contextlib.ExitStack() as ends:
        server = _begun(p0, device, ends)
        tried = 1
        while not server.wait():
            if tried == TRIES or not any(map(TAKEN.search, server.said)):
                raise ModelError(f"--engine vllm: {server.death}")
            server, tried = _begun(p0, device, ends), tried + 1
        yield server


def _begun(p0: P0, device: str, ends: contextlib.ExitStack) -> Server:
    server = Server(p0, device, _free_port())
    ends.callback(server.end)
    _tell(f"{server.name} starts for {p0.model.name}; its log is {server.log}")
    return server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _tell(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
