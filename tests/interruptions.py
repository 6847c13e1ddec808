"""A run that is hit: started, struck at a moment, run again, and compared with one that was left alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from processes import flow_command, process, run_flow, wait_until

NAME = "toy-demo_lam=1.000_val=bees"
TRACES = (".tmp", ".lease")
HURRIED = (
    "import runpy, sys; from tasks.runtime import server_health\n"
    "server_health.LOST, sys.argv = 3, sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)  # a flow that gives a lost server up after 3 s


def slow_reward(folder: Path, seconds: float) -> str:
    """A toy reward that takes its time, so that a run can be hit in the middle."""
    text = (
        "import time\n"
        "def bees(prompts, completions):\n"
        f"    time.sleep({seconds})\n"
        "    return [float('b' in c) for c in completions]\n"
    )
    (folder / "slow.py").write_text(text)
    return f"{folder / 'slow.py'}:bees"


def toy(value: str, *more: str, lam: str = "1") -> list[str]:
    return ["--basemodel", "toy", "--value", value, "--lam", lam, *more]


def scored(folder: Path) -> int:
    """How many shards the pool holds the rewards of."""
    return len(list(folder.glob("results/pool/rewards/*/manifest.json")))


def hit(
    arguments: list[str], env: dict[str, str], folder: Path, number: signal.Signals, shards: int
) -> tuple[int, float, str]:
    """Send a run a signal once `shards` are scored: its exit code, the seconds that it took, its words."""
    with process(flow_command(*arguments), env, folder / "hit.log", cwd=folder) as running:
        wait_until(lambda: scored(folder) >= shards)
        os.kill(running.pid, number)
        began = time.monotonic()
        code = running.wait(timeout=60)
        return code, time.monotonic() - began, (folder / "hit.log").read_text()


def hurried(arguments: list[str]) -> list[str]:
    """The command of a run that gives a lost server up after 3 s."""
    return [sys.executable, "-c", HURRIED, *flow_command(*arguments)[1:]]


def complete(folder: Path) -> dict[str, tuple[int, int]]:
    """Every complete entry of the pool that is dear: its inode and time of change."""
    found = folder.glob("results/pool/*/**/manifest.json")
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def tables(folder: Path, name: str = NAME) -> dict[str, str]:
    """SHA-256 of every table of the data set, and of the records."""
    manifest = json.loads((folder / "results" / name / "manifest.json").read_text())
    records = hashlib.sha256((folder / "results" / f"{name}.json").read_bytes()).hexdigest()
    return {"records": records, **{file: said["sha256"] for file, said in manifest["files"].items()}}


def traces(folder: Path) -> list[str]:
    """Temporary objects that were left behind."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(TRACES)]


def again(arguments: list[str], env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run to the end; nothing that was complete may be written anew, nothing temporary may stay."""
    before = complete(folder)
    done = run_flow(*arguments, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    after = complete(folder)
    assert {name: after.get(name) for name in before} == before
    assert traces(folder) == []
    return done
