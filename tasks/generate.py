"""Generate a shard's samples: one task at a time on a device."""

from collections.abc import Sequence
from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture

from exptilt import stages
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ShardRef
from tasks.runtime.task import done, step


def _generate(recipe: Recipe, shard: ShardRef) -> Any:
    ref = stages.generate(recipe, shard)
    return done(ref, ref.cached)


generate = step(_generate, "generate {shard.name}")


def in_turn(recipe: Recipe, lines: Sequence[Sequence[PrefectFuture[Any]]]) -> list[Any]:
    """The task that the next shard waits for: it frees a device when it ends, completed or failed."""
    ahead = len(recipe.devices)
    return [allow_failure(lines[-ahead][0])] if len(lines) >= ahead else []
