"""The figures of a shard from what its steps gave: its entries of the pool are read once, and summed up."""

import socket
import time
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt.outputs.refined_rows import rows_of, with_levels
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.reports.shard_figures import Level, Moments, ShardFigures
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.references import DrawsRef, ExploredRef, RewardsRef, SamplesRef, ScoredRef, flat
from exptilt.stages.tables import described, draws_of, matrix_of
from exptilt.tilting.verdict import LOW_ESS
from exptilt.wording import reason

EVERY: Final = 2**31 - 1  # more samples than a prompt has
SHOWN: Final = 10  # prompts that are left out, in words
Outcome = SamplesRef | DrawsRef | ScoredRef | ExploredRef | RewardsRef | Exception


def figures_of(plan: Plan | ScorePlan, place: int, outcome: Outcome) -> ShardFigures:
    """The figures of a shard, or of a shard of a file with one value.

    Args:
        plan: the run's.
        place: the shard's.
        outcome: what its last step gave, or what it failed with.
    """
    said: dict[str, Any] = {"host": socket.gethostname(), "ended": time.time()}
    if isinstance(outcome, AllMissing):
        return ShardFigures(**said, **_left_out(outcome.missing))
    if isinstance(outcome, Exception):
        return ShardFigures(**said, failed=reason(outcome))
    if isinstance(plan, ScorePlan):
        assert isinstance(outcome, RewardsRef)
        return ShardFigures(**said, **_of_value(plan.shards[place // len(plan.rewards)], outcome))
    return ShardFigures(**said, **_of_shard(outcome, plan.recipe.config.nsamples))


@singledispatch
def _of_shard(outcome: Any, n: int) -> dict[str, Any]:
    raise TypeError(f"no figures of {type(outcome).__name__}")


@_of_shard.register
def _(ref: SamplesRef, n: int) -> dict[str, Any]:
    return _of_samples(ref, n)


@_of_shard.register
def _(ref: DrawsRef, n: int) -> dict[str, Any]:
    levels, said = _levels_of(ref), draws_of(ref, "diagnostics")
    found = {scored.value: _tilted(levels.filter(pl.col("value") == scored.value)) for scored in ref.rewards}
    return {
        **_of_samples(ref.samples, n),
        "drawn_tokens": ref.samples.tokens + (ref.refined.tokens if ref.refined else 0),
        "samples": int(said["n"].sum()),
        "rewards": _computed(ref.rewards, int(said["n"].sum())),
        "levels": found,
        "low": said.filter(pl.col("ess") < LOW_ESS).height,
        "short": said.filter(pl.col("n_needed") > pl.col("n")).height,
    }


@_of_shard.register
def _(ref: ScoredRef, n: int) -> dict[str, Any]:
    levels, samples = _levels(ref.samples, ref.rewards, n)
    said = _of_samples(ref.samples, n)
    return {**said, "samples": samples, "rewards": _computed(ref.rewards, samples), "levels": levels}


@_of_shard.register
def _(ref: ExploredRef, n: int) -> dict[str, Any]:
    return _of_shard(ref.scored, n)


def _levels_of(ref: DrawsRef) -> pl.DataFrame:
    """A shard's levels, those of its refined completions in the place of the draws where there are any."""
    levels = draws_of(ref, "levels")
    if ref.refined is None:
        return levels
    return with_levels(levels, rows_of(ref, moves=0)).with_columns(drawn=pl.col("refined"))


def _tilted(levels: pl.DataFrame) -> Level:
    """A value's levels of every prompt of a shard that is tilted."""
    return Level(
        before=Moments.of(levels["base"].to_numpy()),
        after=Moments.of(levels["drawn"].to_numpy()),
    )


def _of_value(samples: SamplesRef, ref: RewardsRef) -> dict[str, Any]:
    """A shard of a file with one value."""
    if ref.missing:
        return _left_out(ref.missing)
    levels, count = _levels(samples, [ref], EVERY)
    prompts = samples.shard.n_prompts
    return {"prompts": prompts, "samples": count, "rewards": _computed([ref], count), "levels": levels}


def _of_samples(ref: SamplesRef, n: int) -> dict[str, Any]:
    samples = ref.shard.n_prompts * n
    return {
        "prompts": ref.shard.n_prompts,
        "samples": samples,
        "tokens": _tokens(ref, samples),
        "drawn": ref.drawn,
        "drawn_tokens": ref.tokens,
        **_left_out(ref.missing),
    }


def _tokens(ref: SamplesRef, samples: int) -> int:
    """The tokens of a shard's samples; their share where the pool holds more samples."""
    entries = [described(part) for part in flat(ref.parts)]
    rows = sum(entry.files["samples"]["rows"] for entry in entries)
    tokens = sum(entry.meta.get("tokens", 0) for entry in entries)
    return round(tokens * min(samples / rows, 1)) if rows else 0


def _left_out(missing: Sequence[MissingPrompt]) -> dict[str, Any]:
    return {"missing": tuple(map(str, missing[:SHOWN])), "n_missing": len(missing)}


def _computed(scored: Sequence[RewardsRef], samples: int) -> int:
    """The rewards that were computed now."""
    return sum(samples for ref in scored if not ref.cached)


def _levels(samples: SamplesRef, scored: Sequence[RewardsRef], n: int) -> tuple[dict[str, Level], int]:
    """The values' levels, and how many samples they are of."""
    if not scored:
        return {}, samples.shard.n_prompts * n
    _, counts, rewards = matrix_of(samples, scored, n)
    sums = np.add.reduceat(rewards, np.cumsum(counts) - counts)
    means = sums / counts[:, None]
    found = {ref.value: Level(before=Moments.of(means[:, v])) for v, ref in enumerate(scored)}
    return found, int(counts.sum())
