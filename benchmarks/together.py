"""Two runs at once on the same cores against one: with OpenMP's own spinning, and with exptilt's.

python benchmarks/together.py --prompts 60

At each barrier OpenMP's threads spin until the last one comes, which another run may have put to sleep. A run
of exptilt lets them sleep soon (exptilt/process_setup.py); libgomp's default is 300,000 spins.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from end_to_end import ALONE

from exptilt.process_setup import SPINS

DEFAULT_SPINS = 300_000


def seconds(count: int, spins: int, prompts: int) -> float:
    """Wall time of `count` runs at once, each in a folder of its own."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": str(spins)}
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        runs = []
        for i in range(count):
            settings = ["--value", "humor", "--lam", "1", "--nsamples", "16", "--end", str(prompts)]
            command = [sys.executable, "-c", ALONE, *settings, "--save-directory", str(Path(name, str(i)))]
            runs.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
        if any(run.wait() for run in runs):
            raise SystemExit("a run failed")
        return time.perf_counter() - began


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60)
    prompts = parser.parse_args().prompts
    for name, spins in (("exptilt", SPINS), ("libgomp", DEFAULT_SPINS)):
        one, two = (seconds(count, spins, prompts) for count in (1, 2))
        print(name, json.dumps({"one": one, "two at once": two, "ratio": two / one}), flush=True)


if __name__ == "__main__":
    main()
