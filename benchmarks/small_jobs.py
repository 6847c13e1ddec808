"""Whether a small job is drawn as fast in the shards that a run chooses as in one: tokens per second of both.

python benchmarks/small_jobs.py --model FOLDER            6 prompts × 16 samples, 50 × 32, 240 × 50
python benchmarks/small_jobs.py --jobs 240x50 --new 8     one of them, of short completions

The two take turns; the medians of --rounds are compared. Without --model it is SmolLM2-135M-Instruct.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import real_setup

import exptilt

ONE = 100_000  # prompts in a shard, more than any job has


def rate(settings: dict[str, Any], shard_size: int | str) -> float:
    """Tokens per second of a run in an empty folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        result = exptilt.original(**settings, shard_size=shard_size, save_directory=name)
    speed = result.summary.tokens_per_second
    assert speed
    return float(speed)


def measured(model: str, job: str, new: int, rounds: int) -> list[tuple[float, float]]:
    """Tokens per second in the shards that a run chooses, and in one, round by round."""
    count, n = map(int, job.split("x"))
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "p.txt")
        data.write_text("".join(f"Tell me about the number {k}.\n" for k in range(count)))
        settings = {"basemodel": model, "data": str(data), "nsamples": n, "max_new_tokens": new}
        return [(rate(settings, "auto"), rate(settings, ONE)) for _ in range(rounds)]


def main() -> None:
    """Print a line for each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="a model's folder; a small chat model is made if none")
    parser.add_argument("--jobs", nargs="+", default=["6x16", "50x32", "240x50"])
    parser.add_argument("--new", type=int, default=50, help="tokens at most")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for job in given.jobs:
        found = measured(given.model or real_setup.chat_model(), job, given.new, given.rounds)
        chosen, one = (statistics.median(column) for column in zip(*found, strict=True))
        share = statistics.median(a / b for a, b in found)
        print(f"{job}: {chosen:,.0f} tokens/s, in one shard {one:,.0f}: {share:.2f}", flush=True)


if __name__ == "__main__":
    main()
