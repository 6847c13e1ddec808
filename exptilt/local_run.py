"""The steps of every kind of run in one process, a thread for each device, without an orchestrator."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from pydantic import BaseModel

from exptilt import stages
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.running import Running
from exptilt.config.scoring import Scoring
from exptilt.config.settings import Original, Valued
from exptilt.errors import ConfigError
from exptilt.local_shards import Silent, Watcher, each, outcome_of
from exptilt.outputs import dataset, palette, publish, scores, sweep
from exptilt.outputs.dataset import Shard
from exptilt.planning import exploration, score_file
from exptilt.planning import plan as run_plan
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.process_setup import spin_little
from exptilt.reports.summary import Summary
from exptilt.reports.terminal import Outcome
from exptilt.rewards import RewardSpec
from exptilt.stages import claims
from exptilt.stages.failures import AllMissing
from exptilt.stages.outcomes import results
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ExploredRef, RewardsRef, SamplesRef, ScoredRef, ShardRef
from exptilt.stages.retries import with_retries
from exptilt.stages.workspace import Workspace

Watch = Callable[[Plan | ScorePlan], AbstractContextManager[Watcher]]


def prepare(config: BaseModel) -> Plan | ScorePlan:
    """The plan of a configuration of any kind.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    spin_little()
    if isinstance(config, Running) and config.runner != "threads":
        raise ConfigError(
            f"--runner {config.runner} is for the Prefect flows: python flows/..., or a deployment"
        )
    match config:
        case Scoring():
            return score_file.prepare(config)
        case Sweep() | Palette():
            return exploration.prepare(config)
        case Original() | Valued():
            return run_plan.prepare(config)
    raise TypeError(f"{type(config).__name__} configures no run")


def unwatched(plan: Plan | ScorePlan) -> AbstractContextManager[Watcher]:
    """A watch that shows nothing."""
    return nullcontext(Silent())


def run(plan: Plan | ScorePlan, watch: Watch = unwatched) -> Outcome:
    """Do all of `plan`, of whichever kind it is, reusing what the pool holds.

    A step that fails for a reason that may pass is tried again, as often as in a flow.

    Args:
        plan: what `prepare` gave.
        watch: gives what is told of each shard, for the length of the run.

    Raises:
        ShardsFailed: once every other shard is saved; it lists the shards that failed, as a flow does.
        Stopped: where a stop was asked for.
    """
    config = plan.config if isinstance(plan, ScorePlan) else plan.recipe.config
    try:
        with claims.at_work(plan.run, config.save_directory), watch(plan) as watcher:
            return _run(plan, watcher)
    finally:
        plan.run.end()


def _run(plan: Plan | ScorePlan, watcher: Watcher) -> Outcome:
    if isinstance(plan, ScorePlan):
        return _score(plan, watcher)
    match plan.recipe.config:
        case Sweep():
            return _sweep(plan, watcher)
        case Palette():
            return _palette(plan, watcher)
        case _:
            claimed = claims.of_shards(plan.recipe, plan.shards)
            return _merged(plan, each(claimed, plan.shards, partial(_shard, plan.recipe), watcher))


def _score(plan: ScorePlan, watcher: Watcher) -> Outcome:
    at, pairs = plan.workspace, [(shard, spec) for shard in plan.shards for spec in plan.rewards]
    made = each(claims.of_values(at, pairs), pairs, lambda pair: _rewards(at, *pair), watcher)
    scored = [ref for ref in made if not isinstance(ref, AllMissing)]
    return with_retries(at.run, f"save {plan.config.file}", scores.save, plan, scored)


def _sweep(plan: Plan, watcher: Watcher) -> Outcome:
    recipe, config = plan.recipe, plan.recipe.config
    assert isinstance(config, Sweep)
    claimed = claims.of_shards(recipe, plan.shards)
    explored = each(claimed, plan.scored or plan.shards, partial(_explored, recipe), watcher)
    for place in config.saved:
        chosen = exploration.tilted(plan, config.vectors[place])
        _merged(chosen, results([outcome_of(partial(_tilted, chosen.recipe), shard) for shard in explored]))
    return with_retries(recipe.run, "save the sweep", sweep.frontier, plan, explored)


def _palette(plan: Plan, watcher: Watcher) -> Outcome:
    recipe, claimed = plan.recipe, claims.of_shards(plan.recipe, plan.shards)
    scored = each(claimed, plan.scored or plan.shards, partial(_scored, recipe), watcher)
    return with_retries(recipe.run, "find the palette", palette.find, plan, scored)


def _merged(plan: Plan, shards: Sequence[Shard]) -> Summary:
    summary = with_retries(plan.recipe.run, "merge and save", dataset.merge, plan, shards)
    return publish.published(plan, summary)


def _samples(recipe: Recipe, shard: ShardRef) -> SamplesRef:
    return with_retries(recipe.run, f"generate {shard.name}", stages.generate, recipe, shard)


def _rated(recipe: Recipe, shard: ShardRef) -> tuple[SamplesRef, Sequence[RewardsRef]]:
    """A shard's samples, and the rewards of each value."""
    samples = _samples(recipe, shard)
    return samples, [_rewards(recipe.workspace, samples, spec) for spec in recipe.rewards]


def _rewards(workspace: Workspace, samples: SamplesRef, spec: RewardSpec) -> RewardsRef:
    name = f"score {spec.value} {samples.shard.name}"
    return with_retries(workspace.run, name, stages.score, workspace, samples, spec)


def _draws(recipe: Recipe, samples: SamplesRef, rewards: Sequence[RewardsRef]) -> Shard:
    run, name = recipe.run, samples.shard.name
    draws = with_retries(run, f"tilt {name}", stages.resample, recipe, samples, rewards)
    return with_retries(run, f"refine {name}", stages.refine, recipe, draws) if recipe.refines else draws


def _shard(recipe: Recipe, shard: ShardRef) -> Shard:
    samples, rewards = _rated(recipe, shard)
    return _draws(recipe, samples, rewards) if rewards else samples


def _scored(recipe: Recipe, shard: ShardRef | ScoredRef) -> ScoredRef:
    """A shard drawn and scored, or as a scored file has it."""
    samples, rewards = (
        (shard.samples, shard.rewards) if isinstance(shard, ScoredRef) else _rated(recipe, shard)
    )
    return with_retries(recipe.run, f"collect {samples.shard.name}", stages.agreed, recipe, samples, rewards)


def _explored(recipe: Recipe, shard: ShardRef | ScoredRef) -> ExploredRef:
    scored = _scored(recipe, shard)
    return with_retries(recipe.run, f"explore {scored.samples.shard.name}", stages.explore, recipe, scored)


def _tilted(recipe: Recipe, shard: ExploredRef | AllMissing) -> Shard:
    if isinstance(shard, AllMissing):
        return shard
    return _draws(recipe, shard.scored.samples, shard.scored.rewards)
