"""Refine a shard: move its draws on, beyond what its samples reach."""

from typing import Any

from exptilt import stages
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, ShardRef
from tasks.runtime.task import done, step


def _refine(recipe: Recipe, shard: ShardRef, draws: DrawsRef) -> Any:
    """Move a shard's draws on by suffix Metropolis–Hastings, those moves that the pool does not have."""
    ref = stages.refine(recipe, draws)
    return done(ref, ref.refined is not None and ref.refined.cached)


refine = step(_refine, "refine {shard.name}")
