"""What moves would bring at the λ of a palette that is out of reach: tried on some prompts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from exptilt import stages
from exptilt.config.exploration import Palette
from exptilt.engines import registry
from exptilt.outputs.refined_rows import rows_of, with_levels
from exptilt.planning import exploration
from exptilt.planning.plan import Plan
from exptilt.reports.estimate import estimate_of
from exptilt.reports.palette_answer import Moved
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, ScoredRef
from exptilt.stages.shards import samples_of_some
from exptilt.stages.tables import draws_of, prompts_of
from exptilt.storage import keys
from exptilt.wording import counted

MOVES, PROMPTS = 16, 16
LOT: Final = "moves"
TRYING: Final = f"trying {counted(MOVES, 'move')} on {counted(PROMPTS, 'prompt')}"


def can_try(recipe: Recipe) -> bool:
    """Whether draws can be moved here, by an engine that continues and rewards of one completion."""
    is_drawn = recipe.p0 is not None and registry.capabilities(recipe.p0.model).continues
    return is_drawn and recipe.config.runner == "threads" and all(s.group is None for s in recipe.rewards)


def draws_of_some(plan: Plan, scored: Sequence[ScoredRef], lam: Mapping[str, float]) -> DrawsRef:
    """The draws of some prompts of the first shard at λ, by value, moved MOVES times."""
    first, recipe = scored[0], _recipe(plan, lam)
    names = prompts_of(first.samples.shard)["prompt_id"].to_list()
    chosen = sorted(names, key=lambda name: keys.seed_for(recipe.config.seed, name, LOT))[:PROMPTS]
    some = samples_of_some(recipe, first.samples, chosen)
    return stages.refine(recipe, stages.resample(recipe, some, first.rewards))


def _recipe(plan: Plan, lam: Mapping[str, float]) -> Recipe:
    """The recipe of a run that refines at λ; values without a target have none."""
    asked = plan.recipe.config
    assert isinstance(asked, Palette)
    every = {spec.value: lam.get(spec.value, 0.0) for spec in plan.recipe.rewards}
    tilted = exploration.tilted(plan, every).recipe
    config = tilted.config.model_copy(update={"refine": MOVES, "value": tuple(asked.values)})
    return dataclasses.replace(tilted, config=config, certified=0.0)


def moved(draws: DrawsRef) -> Moved:
    """The levels of these prompts before the moves and after them, by value."""
    levels = with_levels(draws_of(draws, "levels"), rows_of(draws, MOVES))
    by_value = {str(value): rows for (value,), rows in levels.group_by("value", maintain_order=True)}
    return Moved(
        moves=MOVES,
        prompts=draws.samples.shard.n_prompts,
        before={value: estimate_of(rows["drawn"].to_numpy()) for value, rows in by_value.items()},
        after={value: estimate_of(rows["refined"].to_numpy()) for value, rows in by_value.items()},
    )
