"""Generate a shard's samples: one task at a time on a device."""

from collections.abc import Sequence
from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture

from exptilt import stages
from exptilt.plan import Recipe
from exptilt.refs import ShardRef
from tasks.step import done, step


def _generate(recipe: Recipe, shard: ShardRef) -> Any:
    ref = stages.generate(recipe, shard)
    return done(ref, ref.cached)


generate = step(_generate, "generate {shard.name}")


def in_turn(lines: Sequence[Sequence[PrefectFuture[Any]]]) -> list[Any]:
    """What the next shard waits for: the device, which the shard before has until it ends, well or not."""
    return [allow_failure(line[0]) for line in lines[-1:]]
