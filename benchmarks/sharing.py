"""Runs of one configuration on one root against one run: how much of the time is left.

python benchmarks/sharing.py draw  --runs 2     (the demo model, a core for each run)
python benchmarks/sharing.py sleep --runs 4     (the toy engine and a value that sleeps 4 s for every shard)

`devices` is one run with a device, cpu:0, cpu:1, …, and a thread for each core that several runs have.

All runs are flows of one Prefect server. `work` is the time from the first shard begun to the last one ended,
`wall` that from the first start to the last exit, `tail` the share of `work` in which the last 5 % of the
shards end, `shards` how many each run drew itself. The ratios are of several runs to one.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
DRAWN = re.compile(r"shards of samples (\d+)/(\d+)")
PORT = 4311
API = f"http://127.0.0.1:{PORT}/api"
SLEEP = "import time\ndef slow(prompts, completions):\n    time.sleep(4 * (len(prompts) > 99))\n"
SLEEP += "    return [float('b' in c) for c in completions]\n"
SETTINGS = {
    "draw": ["--value", "humor,positive", "--lam", "1,0.5", "--shard-size", "32"],
    "sleep": ["--basemodel", "toy", "--lam", "1", "--shard-size", "32", "--nsamples", "16"],
}


def settings(kind: str, nsamples: int, prompts: int, folder: Path) -> list[str]:
    """The run that is measured, on prompts of its own."""
    data = folder / "prompts.txt"
    data.write_text("".join(f"prompt {number}\n" for number in range(prompts)))
    (folder / "own.py").write_text(SLEEP)
    own = ["--value", f"{folder}/own.py:slow"] if kind == "sleep" else ["--nsamples", str(nsamples)]
    return [*SETTINGS[kind], *own, "--data", str(data)]


@contextlib.contextmanager
def server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of the benchmark's own; the environment that reaches it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    env = {**kept, "PREFECT_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(PORT)]
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        while not _answers():
            time.sleep(0.5)
        yield {**env, "PREFECT_API_URL": API}
    finally:
        running.terminate()
        running.wait()


def _answers() -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{API}/health", timeout=2).is_success
    return False


def measured(count: int, command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """What `count` runs at once took on a root of theirs."""
    cores = sorted(os.sched_getaffinity(0))
    began, clock = time.perf_counter(), datetime.now().astimezone().isoformat()
    runs = [_start(command, env, [cores[i % len(cores)]]) for i in range(count)]
    return _measured(runs, began, clock)


def on_devices(count: int, command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """What one run took that has `count` devices, on as many cores."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    began, clock = time.perf_counter(), datetime.now().astimezone().isoformat()
    devices = ",".join(f"cpu:{place}" for place in range(count))
    return _measured([_start([*command, "--device", devices], env, cores)], began, clock)


def _measured(runs: list["subprocess.Popen[str]"], began: float, clock: str) -> dict[str, Any]:
    said = [run.communicate()[0] for run in runs]
    wall = time.perf_counter() - began
    if any(run.returncode for run in runs):
        raise SystemExit("\n".join(["a run failed", *said]))
    found = [match for match in map(DRAWN.search, said) if match]
    shards = [int(m[2]) - int(m[1]) for m in found]
    return {"wall": round(wall, 1), "shards": shards, **_work(clock)}


def _start(command: list[str], env: dict[str, str], cores: list[int]) -> "subprocess.Popen[str]":
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    return subprocess.Popen(pinned, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _work(since: str) -> dict[str, float]:
    """From the first shard begun to the last one ended, of all flows that started `since` then."""
    steps = [task for task in _tasks(since) if task["state_name"] == "Completed"]
    begun = [_seconds(t["start_time"]) for t in steps if t["name"].startswith("generate")]
    ended = sorted(_seconds(t["end_time"]) for t in steps if t["name"].startswith("tilt"))
    work = ended[-1] - min(begun)
    return {"work": round(work, 1), "tail": round((ended[-1] - ended[len(ended) * 95 // 100 - 1]) / work, 3)}


def _tasks(since: str) -> Iterator[dict[str, Any]]:
    query = {"task_runs": {"start_time": {"after_": since}}, "sort": "NAME_ASC", "limit": 200}
    for offset in range(0, 1_000_000, 200):
        found = httpx.post(f"{API}/task_runs/filter", json={**query, "offset": offset}, timeout=60).json()
        if not found:
            return
        yield from found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def main() -> None:
    """Measure and print, a line of JSON for each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=SETTINGS)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--nsamples", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as env:
        flow = [sys.executable, str(ROOT / "flows/mc_aligned.py")]
        command = [*flow, *settings(asked.kind, asked.nsamples, asked.prompts, Path(name))]
        for number in range(asked.rounds):
            lines = [[*command, "--save-directory", f"{name}/{number}-{place}"] for place in range(3)]
            one, several = measured(1, lines[0], env), measured(asked.runs, lines[1], env)
            found = {"one": one, "several": several}
            if asked.kind == "draw":
                found["devices"] = on_devices(asked.runs, lines[2], env)
            for way, took in found.items():
                ratios = {what: round(took[what] / one[what], 3) for what in ("work", "wall")}
                print(json.dumps({way: took, "of one": ratios}), flush=True)


if __name__ == "__main__":
    main()
