"""The palette of a pool: targets as numbers, the λ that brings them or why none can, checked and saved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exptilt import ids, output, palette, store, targets
from exptilt.errors import PaletteError
from exptilt.explore import Palette
from exptilt.explored import left_out
from exptilt.narrow import Missing, NothingLeft
from exptilt.palette import Reach, Samples, Solution, Wish
from exptilt.plan import Plan
from exptilt.refs import ScoredRef
from exptilt.stages.tables import matrix_of
from exptilt.summary import Estimate

HELD_OUT: Final = 4  # one prompt in so many is held out, by its id
FEWEST_HELD: Final = 8
BACK: Final = 0.95  # how much of the reachable way the answer to an infeasible wish goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value: its target as written and as a number, the base level, and what λ brings: on all prompts;
    on prompts held out while λ was sought (None where they are too few, or the others alone fall short);
    and, where λ is pooled, to a resampler, which normalises per prompt."""

    value: str
    target: str
    wished: float
    lam: float
    base: Estimate
    level: Estimate
    held_out: Estimate | None
    delivered: Estimate
    in_conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a palette. Where the wish is out of reach, λ goes BACK of the reachable way instead."""

    feasible: bool
    share: float
    samples_needed: float | None
    levels: tuple[Level, ...]
    kl: float
    gradient: tuple[float, ...]
    residual: float
    gap: float
    prompts: int
    held_out: int
    json: str
    missing: tuple[Missing, ...] = ()

    @property
    def lam(self) -> list[float]:
        """λ, one per value."""
        return [level.lam for level in self.levels]

    @property
    def values(self) -> list[str]:
        """The values, in the order of λ."""
        return [level.value for level in self.levels]

    @property
    def exit_code(self) -> int:
        """0 if the wish can be had, else 1."""
        return 0 if self.feasible else 1


def find(plan: Plan, scored: Sequence[ScoredRef | NothingLeft]) -> Found:
    """Answer the palette of `plan` from the rewards of its shards, and save the answer.

    Raises PaletteError where the optimiser does not get there.
    """
    config = plan.recipe.config
    assert isinstance(config, Palette)
    prompt_ids, samples = _gather(plan, [ref for ref in scored if not isinstance(ref, NothingLeft)])
    grouped = samples.pooled() if config.pooled else samples
    base = palette.levels(grouped, np.zeros(samples.rewards.shape[1]))[0]
    wish = targets.wish(config.targets, base, samples.rewards)
    try:
        found = replace(_answer(plan, prompt_ids, samples, wish), missing=left_out(scored))
    except ValueError as error:
        raise PaletteError(f"no λ found: {error}") from error
    store.write_json(found.json, {**output.provenance(plan), "palette": asdict(found)})
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


def _answer(plan: Plan, prompt_ids: list[str], samples: Samples, wish: Wish) -> Found:
    config = plan.recipe.config
    assert isinstance(config, Palette)
    grouped = samples.pooled() if config.pooled else samples
    reach = palette.reach(grouped, wish)
    sought = wish if reach.feasible else _back(grouped, wish, reach)
    solution = palette.solve(grouped, sought)
    held = np.array([ids.seed_for(0, prompt, "held out") % HELD_OUT == 0 for prompt in prompt_ids])
    levels = _levels(config, samples, wish, solution, reach, _held_out(samples, sought, held, config.pooled))
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
        json=store.join(config.save_directory, output.named(plan, f"_palette_{_spelled(config)}") + ".json"),
    )


def _samples_needed(samples: Samples, reach: Reach, pooled: bool) -> float | None:
    """Samples per prompt that would reach the wish, more than there are."""
    if reach.samples_needed is None:
        return None
    prompts = len(samples.starts) if pooled else 1
    return max(reach.samples_needed / prompts, float(np.median(samples.counts)) + 1)


def _back(samples: Samples, wish: Wish, reach: Reach) -> Wish:
    """The wish on the line from the base levels, within reach."""
    base = palette.levels(samples, np.zeros(len(wish.levels)))[0]
    return Wish(base + BACK * reach.share * (wish.levels - base), wish.relations)


def _held_out(
    samples: Samples, wish: Wish, held: NDArray[np.bool_], pooled: bool
) -> tuple[palette.Floats, palette.Floats] | None:
    """Levels and errors on the held-out prompts, None where there are too few to say."""
    if min(held.sum(), (~held).sum()) < FEWEST_HELD:
        return None
    try:
        return palette.checked(samples, wish, held, pooled)
    except ValueError:
        return None


def _levels(
    config: Palette,
    samples: Samples,
    wish: Wish,
    solution: Solution,
    reach: Reach,
    held: tuple[palette.Floats, palette.Floats] | None,
) -> tuple[Level, ...]:
    grouped = samples.pooled() if config.pooled else samples
    base = palette.levels(grouped, np.zeros(len(wish.levels)))
    level, delivered = palette.levels(grouped, solution.lam), palette.levels(samples, solution.lam)
    pull = reach.pull > palette.EDGE * reach.pull.max(initial=0.0)
    return tuple(
        Level(
            value=target.value,
            target=target.written,
            wished=float(wish.levels[v]),
            lam=float(solution.lam[v]),
            base=_estimate(base, v),
            level=_estimate(level, v),
            held_out=_estimate(held, v) if held else None,
            delivered=_estimate(delivered, v),
            in_conflict=not reach.feasible and bool(pull[v]),
        )
        for v, target in enumerate(config.targets)
    )


def _estimate(found: tuple[palette.Floats, palette.Floats], v: int) -> Estimate:
    return Estimate(float(found[0][v]), float(found[1][v]))


def _spelled(config: Palette) -> str:
    """The targets as a file name may have them."""
    text = ",".join(target.value + target.written for target in config.targets)
    return "".join(c if c.isalnum() or c in "-_.,+=" else "_" for c in text)[:100]


def sentences(found: Found) -> list[str]:
    """The answer in words."""
    lam = ",".join(f"{number:.4g}" for number in found.lam)
    command = f"--lam {lam} --value {','.join(found.values)}"
    if found.feasible:
        return [f"feasible at KL {found.kl:.4f} nats per prompt: {command}"]
    conflict = " and ".join(level.value for level in found.levels if level.in_conflict)
    needed = _needed(found.samples_needed)
    return [
        f"out of reach: {conflict} cannot be had together; no weights on these samples go more than "
        f"{found.share:.1%} of the way" + needed,
        f"{BACK:.0%} of the reachable way, at KL {found.kl:.4f} nats per prompt: {command}",
    ]


def _needed(samples: float | None) -> str:
    if samples is None:
        return ""
    count = f"about {samples:,.0f}" if samples < 1e6 else "over a million"
    return f"; were rewards normal, {count} samples per prompt would reach it"


def facts(found: Found) -> list[tuple[str, Any]]:
    """The proof and where the answer is."""
    return [
        ("optimality", f"KKT residual {found.residual:.1e}, duality gap {found.gap:.1e} nats"),
        ("held out", f"{found.held_out} of {found.prompts} prompts, chosen by their ids"),
        *(("left out", str(prompt)) for prompt in found.missing),
        ("saved", found.json),
    ]


HEADINGS: Final = ["value", "target", "λ", "base", "level", "held out", "delivered"]


def row(level: Level) -> list[str]:
    """One value's row under HEADINGS."""
    return [
        level.value,
        f"{level.target} ({level.wished:.4f})",
        f"{level.lam:.4g}",
        str(level.base),
        str(level.level),
        str(level.held_out) if level.held_out else "cannot say",
        str(level.delivered),
    ]
