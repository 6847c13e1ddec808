"""Sweeps and palettes: load their plan, draw and score shards, evaluate many λ, answer targets."""

from collections.abc import Sequence
from typing import Any

from exptilt import stages
from exptilt.config.exploration import Palette, Sweep
from exptilt.outputs import palette, sweep
from exptilt.outputs.dataset import Shard
from exptilt.planning import exploration
from exptilt.planning.plan import Plan
from exptilt.reports.frontier import Frontier
from exptilt.reports.palette_answer import Found
from exptilt.stages.failures import AllMissing
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ExploredRef, RewardsRef, SamplesRef, ScoredRef, ShardRef
from tasks.generate import generate
from tasks.runtime.artifacts import show_palette, show_sweep
from tasks.runtime.cluster import planned
from tasks.runtime.shards import Line, finished
from tasks.runtime.task import done, step
from tasks.score import score
from tasks.tilt import tilt

Explored = ExploredRef | AllMissing  # the latter where all its prompts are left out


def _load_explored(config: Sweep | Palette, plan: Plan | None) -> Plan:
    """Check the configuration, and find the samples and rewards to look at."""
    return plan or planned(exploration.prepare, config)


def _collect(recipe: Recipe, shard: ShardRef, samples: SamplesRef, rewards: list[RewardsRef]) -> ScoredRef:
    """Bring a shard's samples and rewards together."""
    return stages.agreed(recipe, samples, rewards)


def _explore(recipe: Recipe, shard: ShardRef, scored: ScoredRef) -> Any:
    """What every λ brings to a shard, and what it costs."""
    ref = stages.explore(recipe, scored)
    return done(ref, ref.cached)


def _save_sweep(plan: Plan, shards: list[Explored]) -> Frontier:
    """Write the table, the picture and the page of the sweep."""
    points = sweep.frontier(plan, shards)
    show_sweep(points, plan.recipe.name)
    return points


def _find_palette(plan: Plan, scored: list[ScoredRef | AllMissing]) -> Found:
    """Solve for the λ of least KL that brings the targets."""
    answer = palette.find(plan, scored)
    show_palette(answer, plan.recipe.name)
    return answer


load_explored: Any = step(_load_explored, "load {config.data}")
collect = step(_collect, "collect {shard.name}")
explore = step(_explore, "explore {shard.name}")
save_sweep: Any = step(_save_sweep, "save the sweep")
find_palette: Any = step(_find_palette, "find the palette")


def scored_line(recipe: Recipe, shard: ShardRef | ScoredRef) -> Line:
    """The tasks of a shard up to its ScoredRef: drawn and scored, or as the file has it."""
    if isinstance(shard, ScoredRef):
        samples = shard.samples
        return [collect.submit(recipe, samples.shard, samples, list(shard.rewards))]
    drawn = generate.submit(recipe, shard)
    rewards = [score.submit(recipe.workspace, shard, drawn, spec) for spec in recipe.rewards]
    return [drawn, *rewards, collect.submit(recipe, shard, drawn, rewards)]


def explored_line(recipe: Recipe, shard: ShardRef | ScoredRef) -> Line:
    """The same, and what the λ of a sweep bring to it."""
    line = scored_line(recipe, shard)
    of = shard.samples.shard if isinstance(shard, ScoredRef) else shard
    return [*line, explore.submit(recipe, of, line[-1])]


def tilted(plan: Plan, shards: Sequence[Explored]) -> list[Shard]:
    """Every shard's draws at the plan's λ."""
    missing = [shard for shard in shards if isinstance(shard, AllMissing)]
    scored = [shard.scored for shard in shards if not isinstance(shard, AllMissing)]
    lines = [[tilt.submit(plan.recipe, s.samples.shard, s.samples, list(s.rewards))] for s in scored]
    return [*finished(lines), *missing]
