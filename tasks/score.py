"""Score a shard's samples: one task per value."""

from typing import Any

from exptilt import stages
from exptilt.refs import SamplesRef, ShardRef
from exptilt.rewards import RewardSpec
from exptilt.stages import Workplace
from tasks.step import done, step


def _score(recipe: Workplace, shard: ShardRef, samples: SamplesRef, spec: RewardSpec) -> Any:
    ref = stages.score(recipe, samples, spec)
    return done(ref, ref.cached)


score = step(_score, "score {spec.value} {shard.name}")
