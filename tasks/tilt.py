"""Tilt a shard: resample its completions at the run's λ."""

from typing import Any

from exptilt import stages
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import RewardsRef, SamplesRef, ShardRef
from tasks.runtime.task import done, step


def _tilt(recipe: Recipe, shard: ShardRef, samples: SamplesRef, rewards: list[RewardsRef]) -> Any:
    """Resample a shard's completions by exp(Σ λ r), prompt by prompt."""
    ref = stages.resample(recipe, samples, rewards)
    return done(ref, ref.cached)


tilt = step(_tilt, "tilt {shard.name}")
