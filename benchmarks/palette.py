"""How long λ takes, and whether it is right, on the recorded rewards of MAP's published run.

python benchmarks/palette.py --records FILE.json       records of six values; pooled, as the paper has it

Targets: the quantile, but at least the mean, for humor, gpt2-helpful and gpt2-harmless; the mean for
diversity, coherence and perplexity.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from exptilt.config import targets
from exptilt.tilting import feasibility, target_levels, target_solver

VALUES = ("humor", "gpt2-helpful", "gpt2-harmless", "diversity", "coherence", "perplexity")


def main() -> None:
    """Print λ, KL and seconds for every palette, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", required=True)
    given = parser.parse_args()
    records = json.loads(Path(given.records).read_text())
    rewards = np.array([[record[value] for value in VALUES] for record in records])
    samples = target_levels.Samples(rewards, np.zeros(1, dtype=np.intp))
    for percent in (50, 60, 70, 80, 90, 99):
        written = [f"q{percent}"] * 3 + ["keep"] * 3
        asked = [targets.parse(f"{value}={target}") for value, target in zip(VALUES, written, strict=True)]
        began = time.perf_counter()
        target = targets.target_levels(asked, rewards.mean(axis=0), rewards)
        reach = feasibility.reach(samples, target)
        said: dict[str, object] = {"feasible": reach.feasible, "share of the way": min(reach.share, 1.0)}
        if reach.feasible:
            found = target_solver.solve(samples, target)
            said |= {"lam": found.lam.round(3).tolist(), "KL": found.kl, "KKT residual": found.residual}
        print(f"{percent} %", json.dumps({**said, "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
