"""The palette of a pool: targets as numbers, the λ that brings them or why none can, checked and saved."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.config import targets
from exptilt.config.exploration import Palette
from exptilt.errors import PaletteError
from exptilt.outputs import manifest, names, palette_moves, pool_entries
from exptilt.planning.exploration import missing_of
from exptilt.planning.plan import Plan
from exptilt.reports import figures, web_page
from exptilt.reports.estimate import Estimate
from exptilt.reports.palette_answer import BACK, Found, Level
from exptilt.run import in_its_run
from exptilt.stages.failures import AllMissing
from exptilt.stages.references import ScoredRef
from exptilt.stages.tables import matrix_of
from exptilt.storage import filesystem, keys
from exptilt.tilting import feasibility, target_levels, target_solver
from exptilt.tilting.feasibility import Reach
from exptilt.tilting.target_levels import Samples, TargetLevels
from exptilt.tilting.target_solver import Solution

HELD_OUT: Final = 4  # one prompt in so many is held out, by its id
FEWEST_HELD: Final = 8


@in_its_run
def find(plan: Plan, scored: Sequence[ScoredRef | AllMissing]) -> Found:
    """Answer the palette of `plan` from the rewards of its shards, and save the answer.

    Raises PaletteError where the optimiser does not get there.
    """
    config = plan.recipe.config
    assert isinstance(config, Palette)
    made = [ref for ref in scored if not isinstance(ref, AllMissing)]
    prompt_ids, samples = _gather(plan, made)
    grouped = samples.pooled() if config.pooled else samples
    base = target_levels.levels(grouped, np.zeros(samples.rewards.shape[1]))[0]
    target = targets.target_levels(config.targets, base, samples.rewards)
    try:
        found = replace(_answer(plan, prompt_ids, samples, target), missing=missing_of(scored))
    except ValueError as error:
        raise PaletteError(f"no λ found: {error}") from error
    draws = None
    if not found.feasible and palette_moves.can_try(plan.recipe):
        lam = dict(zip(found.values, found.lam, strict=True))
        with plan.run.meter.beside(palette_moves.TRYING):
            draws = palette_moves.draws_of_some(plan, made, lam)
        found = replace(found, moved=palette_moves.moved(draws))
    entries = pool_entries.named(plan.shards, [*made, *([draws] if draws else [])])
    filesystem.write_json(found.json, {**manifest.provenance(plan), "palette": asdict(found), **entries})
    picture = figures.svg(figures.palette(found))
    filesystem.write_bytes(found.page, web_page.palette(found, names.named(plan, ""), picture))
    return found


def _gather(plan: Plan, scored: Sequence[ScoredRef]) -> tuple[list[str], Samples]:
    """Prompt ids [P] and the rewards of the values that have a target, in the targets' order."""
    config = plan.recipe.config
    assert isinstance(config, Palette)
    places = [config.columns.index(target.value) for target in config.targets]
    parts = [matrix_of(ref.samples, ref.rewards, config.nsamples) for ref in scored]
    counts = np.concatenate([part[1] for part in parts])
    rewards = np.concatenate([part[2][:, places] for part in parts])
    starts = (np.cumsum(counts) - counts).astype(np.intp)
    return [prompt for part in parts for prompt in part[0]], Samples(rewards, starts)


def _answer(plan: Plan, prompt_ids: list[str], samples: Samples, target: TargetLevels) -> Found:
    config = plan.recipe.config
    assert isinstance(config, Palette)
    grouped = samples.pooled() if config.pooled else samples
    reach = feasibility.reach(grouped, target)
    sought = target if reach.feasible else _back(grouped, target, reach)
    solution = target_solver.solve(grouped, sought)
    held = np.array([keys.seed_for(0, prompt, "held out") % HELD_OUT == 0 for prompt in prompt_ids])
    levels = _levels(
        config, samples, target, solution, reach, _held_out(samples, sought, held, config.pooled)
    )
    return Found(
        feasible=reach.feasible,
        share=min(reach.share, 1.0),
        samples_needed=_samples_needed(samples, reach, config.pooled),
        levels=levels,
        kl=solution.kl,
        gradient=tuple(solution.gradient.tolist()),
        residual=solution.residual,
        gap=solution.gap,
        prompts=len(prompt_ids),
        held_out=int(held.sum()),
        json=filesystem.join(
            config.save_directory, names.named(plan, f"_palette_{_spelled(config)}") + ".json"
        ),
    )


def _samples_needed(samples: Samples, reach: Reach, pooled: bool) -> float | None:
    """Samples per prompt that would reach the targets, more than there are."""
    if reach.samples_needed is None:
        return None
    prompts = len(samples.starts) if pooled else 1
    return max(reach.samples_needed / prompts, float(np.median(samples.counts)) + 1)


def _back(samples: Samples, target: TargetLevels, reach: Reach) -> TargetLevels:
    """The targets on the line from the base levels, within reach."""
    base = target_levels.levels(samples, np.zeros(len(target.levels)))[0]
    return TargetLevels(base + BACK * reach.share * (target.levels - base), target.relations)


def _held_out(
    samples: Samples, target: TargetLevels, held: NDArray[np.bool_], pooled: bool
) -> tuple[target_levels.Floats, target_levels.Floats] | None:
    """Levels and errors on the held-out prompts, None where there are too few to say."""
    if min(held.sum(), (~held).sum()) < FEWEST_HELD:
        return None
    try:
        return target_solver.checked(samples, target, held, pooled)
    except ValueError:
        return None


def _levels(
    config: Palette,
    samples: Samples,
    target: TargetLevels,
    solution: Solution,
    reach: Reach,
    held: tuple[target_levels.Floats, target_levels.Floats] | None,
) -> tuple[Level, ...]:
    grouped = samples.pooled() if config.pooled else samples
    base = target_levels.levels(grouped, np.zeros(len(target.levels)))
    level, delivered = (
        target_levels.levels(grouped, solution.lam),
        target_levels.levels(samples, solution.lam),
    )
    pull = reach.pull > feasibility.EDGE * reach.pull.max(initial=0.0)
    return tuple(
        Level(
            value=asked.value,
            target=asked.written,
            target_level=float(target.levels[v]),
            lam=float(solution.lam[v]),
            base=_estimate(base, v),
            level=_estimate(level, v),
            held_out=_estimate(held, v) if held else None,
            delivered=_estimate(delivered, v),
            in_conflict=not reach.feasible and bool(pull[v]),
        )
        for v, asked in enumerate(config.targets)
    )


def _estimate(found: tuple[target_levels.Floats, target_levels.Floats], v: int) -> Estimate:
    return Estimate(float(found[0][v]), float(found[1][v]))


def _spelled(config: Palette) -> str:
    """The targets as a file name may have them."""
    text = ",".join(target.value + target.written for target in config.targets)
    return "".join(c if c.isalnum() or c in "-_.,+=" else "_" for c in text)[:100]
