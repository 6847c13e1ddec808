"""The frontier of a sweep: for every λ the levels that it brings, the KL that it costs, and its verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from exptilt.reports.estimate import Estimate
from exptilt.stages.failures import MissingPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One λ: level of every value and KL (nats per prompt), with standard errors over prompts; the median
    ESS; the share of prompts under an ESS of 2, and of those that need more samples than they have."""

    number: int
    lam: dict[str, float]  # by value
    levels: tuple[Estimate, ...]
    kl: Estimate
    ess: float
    low_share: float
    short_share: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A finished sweep: its values, base levels and points, and where it is saved."""

    values: tuple[str, ...]
    base: tuple[Estimate, ...]
    points: tuple[Point, ...]
    prompts: int
    n: int
    json: str
    folder: str
    data_sets: tuple[tuple[int, str], ...] = ()
    missing: tuple[MissingPrompt, ...] = ()

    @property
    def saved(self) -> list[tuple[str, str]]:
        """The data sets that were saved, by the λ's number."""
        return [(f"data set {number}", path) for number, path in self.data_sets]

    @property
    def missing_rows(self) -> list[tuple[str, str]]:
        """The prompts that failed."""
        return [("left out", str(prompt)) for prompt in self.missing]


def record(values: Sequence[str], point: Point) -> dict[str, Any]:
    """A point as JSON has it, numbers by the values' names."""
    return {
        "number": point.number,
        "lam": point.lam,
        "levels": {v: asdict(level) for v, level in zip(values, point.levels, strict=True)},
        "kl": asdict(point.kl),
        "ess_median": point.ess,
        "ess_under_2": point.low_share,
        "short_of_samples": point.short_share,
        "verdict": point.verdict,
    }


def headings(found: Frontier) -> list[str]:
    """The columns of a sweep's table."""
    return ["#", "λ", *found.values, "KL", "ESS", "verdict"]


def rows(found: Frontier) -> list[list[str]]:
    """The rows of a sweep's table, p0 first."""
    base = ["0", "0", *(str(level) for level in found.base), "0", str(found.n), "p0"]
    return [base, *(_row(point) for point in found.points)]


def _row(point: Point) -> list[str]:
    lam = ",".join(f"{number:.4g}" for number in point.lam.values())
    levels = [str(level) for level in point.levels]
    return [
        str(point.number),
        lam,
        *levels,
        f"{point.kl.mean:.4f}",
        f"{point.ess:.1f}",
        point.verdict.partition(" in ")[0],
    ]
