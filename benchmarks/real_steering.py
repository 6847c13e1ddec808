"""How far resampling, best-of-n, moves and steering take a real chat model at the same budget.

python benchmarks/real_steering.py           SmolLM2-135M-Instruct towards bad sentiment (VADER); 20 minutes
python benchmarks/real_steering.py --strengths 3 --budgets 32 128 512        (hours)

A budget is samples, or half of it samples and half moves of a draw, per prompt. λσ says how
strong a tilt is, σ the deviation of the reward within a prompt. Levels are means over prompts of the reward,
in deviations from that of p0; errors are by prompt. Resampling and best-of-n are means over all groups of the
pool's samples; moves and steering are one run each, with the verdict that it ended with. Tokens are those per
prompt of the draws, and what the verdict took beside them; rewards are as many as the budget, and those of
beginnings.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import real_setup
from numpy.typing import NDArray
from real import TASKS, TOPICS

import exptilt
from exptilt.tilting.weights import normalise

Floats = NDArray[np.float64]
VALUE: Final = """
import sys
sys.path.append({packages!r})
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

analyzer = SentimentIntensityAnalyzer()

def gloom(prompts, completions):
    return [-analyzer.polarity_scores(completion)["compound"] for completion in completions]
"""
STRONG: Final = 3.0  # λσ from which on samples are steered, too
DRAWS: Final = 4  # of a prompt, whose mean has a smaller error
MOST: Final = 512  # samples, which resampling and best-of-n are shown for, too
REFINED: Final[dict[str, Any]] = {"resample, refine": {}}
WAYS: Final = (REFINED, REFINED | {"steer, refine": {"steer": True, "block_tokens": 5}})
HEADER: Final = """\
| λσ | budget | way | level | verdict | tokens | and for the verdict |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Draw the pool once, then print a table line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="a chat model's folder; made if none")
    parser.add_argument("--strengths", type=float, nargs="+", default=(1.0, 2.0, 3.0, 5.0))
    parser.add_argument("--budgets", type=int, nargs="+", default=(32,), help="a long one takes hours")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--new", type=int, default=20, help="tokens at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        settings = _settings(given, Path(name))
        rewards, tokens = _pool(settings, max(MOST, *given.budgets))
        sigma = float(np.sqrt(rewards.var(axis=1, ddof=1).mean()))
        print(f"σ = {sigma:.4f}, level of p0 {rewards.mean():+.4f}\n\n{HEADER}", flush=True)
        for strength in given.strengths:
            for n in dict.fromkeys((*given.budgets, MOST)):
                ways = WAYS[strength >= STRONG] if n in given.budgets else {}
                for line in _lines(settings, rewards, tokens, strength / sigma, n, ways):
                    print(f"| {strength:g} | {n} | {line} |", flush=True)


def _settings(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    asked = [task.format(topic) for task in TASKS for topic in TOPICS][: given.prompts]
    messages = [{"messages": [{"role": "user", "content": text}]} for text in asked]
    (folder / "prompts.json").write_text(json.dumps(messages), encoding="utf-8")
    (folder / "sentiment.py").write_text(VALUE.format(packages=real_setup.sentiment()), encoding="utf-8")
    return {
        "basemodel": given.model or real_setup.chat_model(),
        "data": str(folder / "prompts.json"),
        "value": f"{folder}/sentiment.py:gloom",
        "max_new_tokens": given.new,
        "dtype": "bfloat16",
        "save_directory": str(folder),
    }


def _pool(settings: dict[str, Any], n: int) -> tuple[Floats, float]:
    """Rewards of n samples of every prompt [P, n], of which the runs that follow take the first, and the mean
    of their tokens."""
    result = exptilt.mc_aligned(**settings, lam=1.0, nsamples=n)
    rewards = result.table("rewards/gloom")["reward"].to_numpy().reshape(-1, n)
    return rewards, float(result.table("samples")["n_tokens"].mean())  # type: ignore[arg-type]


def _lines(
    settings: dict[str, Any], rewards: Floats, tokens: float, lam: float, n: int, ways: dict[str, Any]
) -> Iterator[str]:
    """The rows of one λ and budget: way, level, verdict, tokens, and those for the verdict."""
    groups = rewards[:, : rewards.shape[1] // n * n].reshape(len(rewards), -1, n)
    kept, drawn = (normalise(lam * groups) * groups).sum(axis=2), f"{n * tokens:,.0f}"
    verdict = exptilt.mc_aligned(**settings, lam=lam, nsamples=n).summary.verdict
    yield f"resample | {_level(rewards, kept.mean(axis=1))} | {verdict} | {drawn} | "
    yield f"best of n | {_level(rewards, groups.max(axis=2).mean(axis=1))} | | {drawn} | "
    for way, more in ways.items():
        result = exptilt.mc_aligned(**settings, lam=lam, nsamples=n // 2, refine=n // 2, ndraws=DRAWS, **more)
        found = result.table("refined").group_by("prompt_id", maintain_order=True).agg(pl.col("gloom").mean())
        yield f"{way} | {_level(rewards, found['gloom'].to_numpy())} | {_said(result, len(rewards))}"


def _level(rewards: Floats, reached: Floats) -> str:
    """How far above p0 the rewards [P] are, in deviations, with the error by prompt."""
    gain = (reached - rewards.mean(axis=1)) / np.sqrt(rewards.var(axis=1, ddof=1).mean())
    return f"{gain.mean():.3f} ± {gain.std(ddof=1) / np.sqrt(len(gain)):.3f}"


def _said(result: exptilt.Result, prompts: int) -> str:
    """The verdict, and per prompt the tokens of a draw and those of the verdict on it."""
    found, samples = result.summary.refinement, result.table("samples")
    assert found
    drawn = int(samples["n_tokens"].sum()) + (found.tokens - found.certificate) / DRAWS
    return (
        f"{found.convergence.verdict} | {drawn / prompts:,.0f} | {found.certificate / DRAWS / prompts:,.0f}"
    )


if __name__ == "__main__":
    main()
