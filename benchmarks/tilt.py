"""What weighing, diagnosing and drawing cost, against the research code's loop over prompts, in one run.

python benchmarks/tilt.py                  10 million samples × 6 values, 32 samples per prompt

Ours goes over shards of 4,096 prompts: log weights, all diagnostics, levels, one draw. The research
code's way goes prompt by prompt over lists of rewards: sums, exponentials, their sum, one multinomial
draw; no diagnostics. It is timed on a part of the prompts. Making the data is not timed. Seconds are the
processor's, so that what else runs on the machine counts little.
"""

import argparse
import json
import resource
import time

import numpy as np
import torch

from exptilt.tilting import diagnostics, weights
from exptilt.tilting.resampling import multinomial

N, V, SHARD = 32, 6, 4096
LAM = np.array([0.5, 0.3, -0.2, 0.1, 0.4, 0.2])


def ours(rewards: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """A shard's draws, with everything that a run says of them."""
    log_weight = weights.log_weights(rewards, LAM)
    diagnostics.diagnose(log_weight)
    weights.levels(log_weight, rewards)
    return multinomial(log_weight, uniforms, 1)


def research(rewards: list[list[list[float]]]) -> list[int]:
    """Prompt by prompt, sample by sample."""
    lam, picks = LAM.tolist(), []
    for prompt in rewards:
        totals = [sum(a * b for a, b in zip(lam, row, strict=True)) for row in prompt]
        weights = torch.exp(torch.tensor(totals))
        picks.append(int(torch.multinomial(weights / weights.sum(), 1).item()))
    return picks


def main() -> None:
    """Measure both and print the ratio, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    given = parser.parse_args()
    rng, spent, done = np.random.default_rng(0), 0.0, 0
    while done < given.samples:
        rewards, uniforms = rng.normal(size=(SHARD, N, V)), rng.random((SHARD, N))
        began = time.process_time()
        ours(rewards, uniforms)
        spent, done = spent + time.process_time() - began, done + SHARD * N
    rows = rewards.tolist()
    began = time.process_time()
    research(rows)
    theirs = (time.process_time() - began) / (SHARD * N)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"samples": done, "seconds": spent, "samples/s": done / spent, "research samples/s": 1 / theirs}
    print(json.dumps({**figures, "ratio": theirs * done / spent, "peak GiB": peak}))


if __name__ == "__main__":
    main()
