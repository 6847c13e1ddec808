"""Generate a shard's samples."""

from typing import Any

from exptilt import stages
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ShardRef
from tasks.runtime.task import done, step


def _generate(recipe: Recipe, shard: ShardRef) -> Any:
    """Draw the completions of a shard's prompts that the pool does not have."""
    ref = stages.generate(recipe, shard)
    return done(ref, ref.cached)


generate = step(_generate, "generate {shard.name}")
