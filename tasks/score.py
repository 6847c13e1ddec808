"""Score a shard's samples: one task per value."""

from typing import Any

from exptilt import stages
from exptilt.rewards import RewardSpec
from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.workspace import Workspace
from tasks.runtime.task import done, step


def _score(workspace: Workspace, shard: ShardRef, samples: SamplesRef, spec: RewardSpec) -> Any:
    """Score a shard's completions by one value, those that the pool does not have."""
    ref = stages.score(workspace, samples, spec)
    return done(ref, ref.cached)


score = step(_score, "score {spec.value} {shard.name}")
