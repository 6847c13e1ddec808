"""Two runs of one configuration on one root, one core each, against one run on one core.

python benchmarks/sharing.py --nsamples 96 --rounds 3

Each round measures both, one after the other, from the first start to the last exit: two should take half as
long, and the seconds in which a process starts. `shards` says how many each run drew itself.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = ["--value", "humor,positive", "--lam", "1,0.5", "--shard-size", "32"]
DRAWN = re.compile(r"shards of samples (\d+)/(\d+)")


def measured(count: int, nsamples: int, folder: Path) -> dict[str, Any]:
    """Wall time of `count` runs at once on one root, and how many shards each drew."""
    cores, root = sorted(os.sched_getaffinity(0)), str(folder / "results")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "exptilt.command", "mc-aligned", *SETTINGS]
    command += ["--nsamples", str(nsamples), "--save-directory", root]
    began = time.perf_counter()
    runs = [_start(command, env, cores[i % len(cores)]) for i in range(count)]
    said = [run.communicate()[0] for run in runs]
    seconds = time.perf_counter() - began
    if any(run.returncode for run in runs):
        raise SystemExit("\n".join(["a run failed", *said]))
    found = [match for match in map(DRAWN.search, said) if match]
    return {"seconds": round(seconds, 1), "shards": [int(m[2]) - int(m[1]) for m in found]}


def _start(command: list[str], env: dict[str, str], core: int) -> "subprocess.Popen[str]":
    pinned = ["taskset", "--cpu-list", str(core), *command]
    return subprocess.Popen(pinned, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> None:
    """Measure and print, a line of JSON for each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nsamples", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as name:
            one, two = (measured(count, asked.nsamples, Path(name, str(count))) for count in (1, 2))
        print(json.dumps({"one": one, "two": two, "ratio": two["seconds"] / one["seconds"]}), flush=True)


if __name__ == "__main__":
    main()
