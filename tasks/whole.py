"""All steps of a shard in one task: for a cluster, where each worker has a device and keeps its models."""

from typing import Any

from exptilt import stages
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import SamplesRef, ScoredRef, ShardRef
from tasks.runtime.task import done, step


def _scored(recipe: Recipe, shard: ShardRef | ScoredRef) -> tuple[ScoredRef, bool]:
    """A shard drawn and scored, or as a file has it, and whether the pool had all of it."""
    if isinstance(shard, ScoredRef):
        return stages.agreed(recipe, shard.samples, shard.rewards), True
    samples = stages.generate(recipe, shard)
    rewards = [stages.score(recipe.workspace, samples, spec) for spec in recipe.rewards]
    cached = samples.cached and all(ref.cached for ref in rewards)
    return stages.agreed(recipe, samples, rewards), cached


def _collect_whole(recipe: Recipe, shard: ShardRef | ScoredRef) -> Any:
    """Draw and score a shard."""
    return done(*_scored(recipe, shard))


def _explore_whole(recipe: Recipe, shard: ShardRef | ScoredRef) -> Any:
    """Draw and score a shard; what every λ brings to it."""
    scored, cached = _scored(recipe, shard)
    ref = stages.explore(recipe, scored)
    return done(ref, cached and ref.cached)


def _tilt_whole(recipe: Recipe, shard: ShardRef) -> Any:
    """Draw, score and resample a shard, and refine it where the run does."""
    samples: SamplesRef = stages.generate(recipe, shard)
    rewards = [stages.score(recipe.workspace, samples, spec) for spec in recipe.rewards]
    ref = stages.resample(recipe, samples, rewards)
    cached = ref.cached and samples.cached and all(each.cached for each in rewards)
    if recipe.refines:
        ref = stages.refine(recipe, ref)
    return done(ref, cached and (ref.refined is None or ref.refined.cached))


collect_whole = step(_collect_whole, "shard {shard.name}")
explore_whole = step(_explore_whole, "shard {shard.name}")
tilt_whole = step(_tilt_whole, "shard {shard.name}")
