"""A real Ray cluster for the tests: nodes of one CPU and one logical GPU on loopback, each a process."""

import contextlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from processes import free_port, listens, wait_until

HEAD = "127.0.0.2"
QUIET = ("--disable-usage-stats", "--object-store-memory", "100000000", "--num-cpus=1", "--num-gpus=1")


@dataclass(frozen=True)
class Nodes:
    """The cluster's address, the environment that reaches it, and the folder that its processes name."""

    address: str
    env: dict[str, str]
    folder: Path

    def add(self, ip: str, *arguments: str) -> None:
        """Start a node; it is a part of the cluster a few seconds later."""
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", f"--node-ip-address={ip}"]
        with (self.folder / f"{ip}.log").open("wb") as log:
            subprocess.Popen(
                [*command, *QUIET, *arguments],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, ip: str) -> None:
        """Wait until the node is a part of the cluster."""
        wait_until(lambda: b"runtime started" in (self.folder / f"{ip}.log").read_bytes(), 240)

    def raylet(self, ip: str) -> psutil.Process:
        """The process that is the node."""
        return next(
            p for p in self.processes() if "raylet" in p.name() and f"--node_ip_address={ip}" in words(p)
        )

    def processes(self) -> list[psutil.Process]:
        """All processes of the cluster."""
        mine = (str(self.folder), f"--address={self.address}", f":{self.address.rpartition(':')[2]}")
        return [p for p in psutil.process_iter() if any(part in " ".join(words(p)) for part in mine)]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextlib.contextmanager
def cluster(env: dict[str, str], *others: str) -> Iterator[Nodes]:
    """A head and a node at each address of `others`, all gone at the end."""
    folder, port = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")), free_port()  # a socket's path is short
    told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    nodes = Nodes(f"{HEAD}:{port}", {**env, **told}, folder)
    try:
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        nodes.add(HEAD, *head)
        wait_until(lambda: listens(port, HEAD), 240)
        for ip in others:
            nodes.add(ip, f"--address={nodes.address}")
        for ip in (HEAD, *others):
            nodes.wait(ip)
        yield nodes
    finally:
        deadline = time.monotonic() + 20
        while (left := nodes.processes()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, 1)
        shutil.rmtree(folder, ignore_errors=True)
