"""What Ray costs over threads on one machine: its start, and each shard.

python benchmarks/ray_cost.py --rounds 3

The toy engine, which costs next to nothing, on prompts in shards of 32. Each run has a folder and a process
of its own, with --runner ray a Ray as well; all share a Prefect home. Both take turns at two numbers of
shards: a shard costs the difference of the medians over that of the numbers, a start the rest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from end_to_end import ROOT, environment

FEW, MANY, BLOCK = 10, 110, 32


def measure(runner: str, shards: int, base: Path) -> float:
    """Wall seconds of one run in an empty folder."""
    with tempfile.TemporaryDirectory(dir=base) as name:
        prompts = Path(name, "prompts.txt")
        prompts.write_text("".join(f"prompt {i}\n" for i in range(BLOCK * shards)))
        settings = ["--basemodel", "toy", "--value", "diversity", "--lam", "1", "--nsamples", "4"]
        command = [sys.executable, str(ROOT / "flows" / "mc_aligned.py"), *settings, "--data", str(prompts)]
        more = ["--shard-size", str(BLOCK), "--runner", runner, "--save-directory", f"{name}/results"]
        began = time.perf_counter()
        subprocess.run([*command, *more], env=environment(base / "home"), check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    walls = {(runner, shards): list[float]() for shards in (FEW, MANY) for runner in ("threads", "ray")}
    with tempfile.TemporaryDirectory() as name:
        make = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(make, env=environment(Path(name, "home")), check=True, capture_output=True)
        for _ in range(rounds):
            for (runner, shards), found in walls.items():
                found.append(measure(runner, shards, Path(name)))
                print(runner, shards, f"{found[-1]:.1f}", flush=True)
    for runner in ("threads", "ray"):
        few, many = (statistics.median(walls[runner, shards]) for shards in (FEW, MANY))
        each = (many - few) / (MANY - FEW)
        print(runner, json.dumps({"start": few - FEW * each, "shard": each, "few": few, "many": many}))


if __name__ == "__main__":
    main()
