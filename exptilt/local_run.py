"""The steps of a run in one process, one shard after the other, without an orchestrator."""

from collections.abc import Iterable

from exptilt import stages
from exptilt.outputs import dataset
from exptilt.outputs.dataset import Shard
from exptilt.planning.plan import Plan
from exptilt.reports.summary import Summary
from exptilt.stages.failures import AllMissing
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ShardRef


def run(plan: Plan, shards: Iterable[ShardRef] | None = None) -> Summary:
    """Do all of `plan`, reusing what the pool holds; `shards` may wrap plan.shards to watch them."""
    return dataset.merge(plan, [_shard(plan.recipe, s) for s in shards or plan.shards])


def _shard(recipe: Recipe, shard: ShardRef) -> Shard:
    try:
        samples = stages.generate(recipe, shard)
        if not recipe.rewards:
            return samples
        scored = [stages.score(recipe.workspace, samples, spec) for spec in recipe.rewards]
        return stages.resample(recipe, samples, scored)
    except AllMissing as error:
        return error
