"""Generate a shard's samples: one task at a time on a device."""

from collections import defaultdict
from threading import Lock
from typing import Any

from exptilt import stages
from exptilt.plan import Recipe
from exptilt.refs import ShardRef
from tasks.step import done, step

_devices: defaultdict[str, Lock] = defaultdict(Lock)


def _generate(recipe: Recipe, shard: ShardRef) -> Any:
    with _devices[recipe.device]:
        ref = stages.generate(recipe, shard)
    return done(ref, ref.cached)


generate = step(_generate, "generate {shard.name}")
