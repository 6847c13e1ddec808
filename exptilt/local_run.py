"""The steps of every kind of run in one process, one shard after the other, without an orchestrator."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from exptilt import stages
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.settings import Original, Scoring, Valued
from exptilt.errors import ShardsFailed, Stopped
from exptilt.outputs import dataset, palette, scores, sweep
from exptilt.outputs.dataset import Shard
from exptilt.planning import exploration, score_file
from exptilt.planning import plan as run_plan
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.reports.terminal import Outcome
from exptilt.stages.failures import AllMissing
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ExploredRef, ScoredRef, ShardRef
from exptilt.wording import counted

T = TypeVar("T")
R = TypeVar("R")
Watch = Callable[[Sequence[Any]], Iterable[Any]]  # gives the shards that it gets, and may show progress


def prepare(config: BaseModel) -> Plan | ScorePlan:
    """The plan of a configuration of any kind.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    match config:
        case Scoring():
            return score_file.prepare(config)
        case Sweep() | Palette():
            return exploration.prepare(config)
        case Original() | Valued():
            return run_plan.prepare(config)
    raise TypeError(f"{type(config).__name__} configures no run")


def run(plan: Plan | ScorePlan, watch: Watch = list) -> Outcome:
    """Do all of `plan`, of whichever kind it is, reusing what the pool holds.

    Raises the first shard's error, once every other shard is saved.
    """
    if isinstance(plan, ScorePlan):
        return _score(plan, watch)
    match plan.recipe.config:
        case Sweep():
            return _sweep(plan, watch)
        case Palette():
            return _palette(plan, watch)
        case _:
            return dataset.merge(plan, _each(watch(plan.shards), lambda shard: _shard(plan.recipe, shard)))


def _score(plan: ScorePlan, watch: Watch) -> Outcome:
    at, pairs = plan.workspace, [(shard, spec) for shard in plan.shards for spec in plan.rewards]
    made = _each(watch(pairs), lambda pair: stages.score(at, *pair))
    return scores.save(plan, [ref for ref in made if not isinstance(ref, AllMissing)])


def _sweep(plan: Plan, watch: Watch) -> Outcome:
    recipe, config = plan.recipe, plan.recipe.config
    assert isinstance(config, Sweep)
    shards = watch(plan.scored or plan.shards)
    explored = _each(shards, lambda shard: stages.explore(recipe, _scored(recipe, shard)))
    for place in config.saved:
        chosen = exploration.tilted(plan, config.vectors[place])
        dataset.merge(chosen, [_tilted(chosen.recipe, shard) for shard in explored])
    return sweep.frontier(plan, explored)


def _palette(plan: Plan, watch: Watch) -> Outcome:
    shards = watch(plan.scored or plan.shards)
    return palette.find(plan, _each(shards, lambda shard: _scored(plan.recipe, shard)))


def _each(shards: Iterable[T], work: Callable[[T], R]) -> list[R | AllMissing]:
    """What `work` gives for every shard, AllMissing where all prompts of one are left out."""
    made: list[R | AllMissing] = []
    failed: list[Exception] = []
    for shard in shards:
        try:
            made.append(work(shard))
        except AllMissing as error:
            made.append(error)
        except Stopped:
            raise
        except Exception as error:
            failed.append(error)
    if failed:
        count = f"{len(failed)} of {counted(len(failed) + len(made), 'shard')} failed"
        failed[0].add_note(f"{count}; the others are saved, and a re-run does only what is missing")
        raise failed[0]
    left_out = [error for error in made if isinstance(error, AllMissing)]
    if len(left_out) == len(made):
        raise ShardsFailed(f"every prompt failed; the first: {left_out[0].missing[0]}")
    return made


def _shard(recipe: Recipe, shard: ShardRef) -> Shard:
    samples = stages.generate(recipe, shard)
    if not recipe.rewards:
        return samples
    return stages.resample(
        recipe, samples, [stages.score(recipe.workspace, samples, spec) for spec in recipe.rewards]
    )


def _scored(recipe: Recipe, shard: ShardRef | ScoredRef) -> ScoredRef:
    """A shard drawn and scored, or as a scored file has it."""
    if isinstance(shard, ScoredRef):
        return stages.agreed(recipe, shard.samples, shard.rewards)
    samples = stages.generate(recipe, shard)
    return stages.agreed(
        recipe, samples, [stages.score(recipe.workspace, samples, spec) for spec in recipe.rewards]
    )


def _tilted(recipe: Recipe, shard: ExploredRef | AllMissing) -> Shard:
    if isinstance(shard, AllMissing):
        return shard
    return stages.resample(recipe, shard.scored.samples, shard.scored.rewards)
