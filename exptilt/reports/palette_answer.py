"""The answer to a palette: the λ that brings the targets, or why none can, as numbers and in words."""

from dataclasses import dataclass
from typing import Any, Final

from exptilt.reports.estimate import Estimate
from exptilt.stages.failures import MissingPrompt
from exptilt.wording import counted

BACK: Final = 0.95  # how much of the reachable way the answer to an infeasible palette goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value: its target as written and as a number, the base level, and what λ brings: on all prompts;
    on prompts held out while λ was sought (None where they are too few, or the others alone fall short);
    and, where λ is pooled, to a resampler, which normalises per prompt."""

    value: str
    target: str
    target_level: float
    lam: float
    base: Estimate
    level: Estimate
    held_out: Estimate | None
    delivered: Estimate
    in_conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moves of the draws at the answer's λ bring, tried on some prompts: the values' levels there."""

    moves: int
    prompts: int
    before: dict[str, Estimate]
    after: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a palette. Out of reach, λ goes BACK of the reachable way instead, and `moved` says what
    moves would bring there, where draws can be moved."""

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
    missing: tuple[MissingPrompt, ...] = ()
    moved: Moved | None = None

    @property
    def lam(self) -> list[float]:
        """λ, one per value."""
        return [level.lam for level in self.levels]

    @property
    def values(self) -> list[str]:
        """The values, in the order of λ."""
        return [level.value for level in self.levels]

    @property
    def page(self) -> str:
        """Where its page is."""
        return f"{self.json.removesuffix('.json')}.html"

    @property
    def exit_code(self) -> int:
        """0 if the targets can be reached, else 1."""
        return 0 if self.feasible else 1


def sentences(found: Found) -> list[str]:
    """The answer in words."""
    command = "--lam " + ",".join(f"{level.value}={level.lam:.4g}" for level in found.levels)
    if found.feasible:
        return [f"feasible at KL {found.kl:.4f} nats per prompt: {command}"]
    conflict = [level.value for level in found.levels if level.in_conflict]
    together = " together" if len(conflict) > 1 else ""
    needed = _needed(found.samples_needed)
    return [
        f"out of reach: {' and '.join(conflict)} cannot be reached{together}; no weights on these samples go "
        f"more than {found.share:.1%} of the way" + needed,
        f"{BACK:.0%} of the reachable way, at KL {found.kl:.4f} nats per prompt: {command}",
        *([_moved(found.moved, command)] if found.moved else []),
    ]


def _moved(moved: Moved, command: str) -> str:
    brought = ", ".join(f"{value} {moved.before[value]} → {level}" for value, level in moved.after.items())
    tried = f"{counted(moved.moves, 'move')} of one draw of {counted(moved.prompts, 'prompt')}"
    return (
        f"beyond the samples, {tried} brought: {brought}; {command} --refine {moved.moves} does so everywhere"
    )


def _needed(samples: float | None) -> str:
    if samples is None:
        return ""
    count = f"about {samples:,.0f}" if samples < 1e6 else "over a million"
    return f"; were rewards normal, {count} samples per prompt would reach it"


def facts(found: Found) -> list[tuple[str, Any]]:
    """The proof and where the answer is."""
    return [
        ("optimality", f"KKT residual {found.residual:.1e}, duality gap {found.gap:.1e} nats"),
        ("held out", f"{found.held_out} of {counted(found.prompts, 'prompt')}, chosen by their ids"),
        *(("left out", str(prompt)) for prompt in found.missing),
        ("saved", found.json),
        ("page", found.page),
    ]


EXPLAINED: Final = (
    "Means over prompts ± standard error: of all samples (base); of what λ brings there (level); on prompts "
    "held out while a λ was sought; and of what a resampler delivers, which normalises per prompt. The "
    "dashed lines are the targets."
)
HEADINGS: Final = ["value", "target", "λ", "base", "level", "held out", "delivered"]


def row(level: Level) -> list[str]:
    """One value's row under HEADINGS."""
    return [
        level.value,
        f"{level.target} ({level.target_level:.4f})",
        f"{level.lam:.4g}",
        str(level.base),
        str(level.level),
        str(level.held_out) if level.held_out else "cannot say",
        str(level.delivered),
    ]
