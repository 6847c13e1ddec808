"""What scoring a file gave: each column's mean, and how often a chosen text is above its rejected one."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exptilt.reports.estimate import Estimate, estimate_of


@dataclass(frozen=True, slots=True)
class Preference:
    """How a value compares the sides of pairs.

    Attributes:
        share: of the pairs whose chosen side has the larger number, with its standard error.
        ties: pairs whose sides have equal numbers.
    """

    share: Estimate
    ties: int


def preference_of(chosen: NDArray[np.float64], rejected: NDArray[np.float64]) -> Preference:
    """How the numbers [R] of the chosen sides compare with those of the rejected ones, [R]."""
    return Preference(estimate_of((chosen > rejected).astype(np.float64)), int((chosen == rejected).sum()))


@dataclass(slots=True, kw_only=True)
class Scores:
    """A scored file: where it is, the mean of each column with its standard error, for pairs each value's
    preference, and how many records are left out, by cause."""

    file: str
    records: int
    means: dict[str, Estimate] = field(default_factory=dict)
    preferences: dict[str, Preference] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    cut: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


def table(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """The headings and the rows of what people read: a row per value."""
    if not scores.preferences:
        return ["value", "mean"], [[value, str(mean)] for value, mean in scores.means.items()]
    headings = ["value", "chosen", "rejected", "share of chosen > rejected", "ties"]
    rows = [
        [value, *_sides(scores, value), str(found.share), f"{found.ties:,}"]
        for value, found in scores.preferences.items()
    ]
    return headings, rows


def _sides(scores: Scores, value: str) -> list[str]:
    return [str(scores.means[f"{value}_{side}"]) for side in ("chosen", "rejected")]
