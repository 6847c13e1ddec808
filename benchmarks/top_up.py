"""What stopping at a good ESS does to the levels, on the toy engine, whose tilted model is known exactly.

python benchmarks/top_up.py                  a reward of 0 or 1, λ = 3, 240 prompts, 20 seeds

Compares, by the mean of the weighted reward: n = 8, n = 8 topped up to 64 where the ESS is under 4, one n of
about the same cost, and n = 64, each with the exact level of p_λ.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.engines.toy import ToyEngine
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.stages.tables import prompts_of

REWARD = "def bees(prompts, completions):\n    return [float('b' in c) for c in completions]\n"


def config(folder: Path, seed: int, lam: float, **how: float) -> MCAligned:
    """A run of all 240 prompts."""
    value, where = f"{folder / 'rewards.py'}:bees", str(folder / "results")
    return MCAligned(basemodel="toy", value=value, lam=lam, seed=seed, save_directory=where, **how)


def level(settings: MCAligned) -> tuple[float, float]:
    """The weighted level and the samples per prompt of one run."""
    summary = run(prepare(settings))
    levels = pl.read_parquet(f"{summary.folder}/levels/*.parquet")
    return float(levels["weighted"].to_numpy().mean()), summary.samples / summary.prompts


def exact(settings: MCAligned) -> float:
    """The level of p_λ, by enumeration."""
    plan = prepare(settings)
    assert plan.recipe.p0
    engine, (lam,) = ToyEngine(plan.recipe.p0), settings.lam
    prompts = [text for shard in plan.shards for text in prompts_of(shard)["prompt"].to_list()]
    chances = [sum(p for text, p in engine.enumerate(prompt) if "b" in text) for prompt in prompts]
    p = np.array(chances)
    return float(np.mean(p * np.exp(lam) / (p * np.exp(lam) + 1 - p)))


def main() -> None:
    """Print one line per way, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--lam", type=float, default=3.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rewards.py").write_text(REWARD)
        truth = exact(config(folder, 0, given.lam))
        ways = {"n = 8": {"nsamples": 8}, "topped up": {"nsamples": 8, "min_ess": 4, "max_nsamples": 64}}
        ways |= {f"n = {n}": {"nsamples": n} for n in (16, 24, 64)}
        for way, how in ways.items():
            found = [level(config(folder, seed, given.lam, **how)) for seed in range(given.seeds)]
            levels, sizes = np.array(found).T
            error = levels.std(ddof=1) / np.sqrt(given.seeds)
            said = {"samples per prompt": sizes.mean(), "level": levels.mean(), "error": error}
            print(way, json.dumps({**said, "exact": truth, "bias": levels.mean() - truth}), flush=True)


if __name__ == "__main__":
    main()
