"""The target level of a value: humor=2.1, humor=+0.3, humor=q70, humor=keep; also <= and ==.

A level, a gain over the base level, the level of a quantile of the base samples (but at least the base
level), or the base level itself. `=` means at least, `<=` at most, `==` exactly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from exptilt.errors import ConfigError

if TYPE_CHECKING:
    from exptilt.tilting.target_levels import TargetLevels

Floats = NDArray[np.float64]

NUMBER: Final = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
GRAMMAR: Final = re.compile(rf"(?P<value>.+?)\s*(?P<sign><=|>=|==|=)\s*(?P<level>keep|q{NUMBER}|\+?{NUMBER})")
RELATIONS: Final = {"=": ">=", ">=": ">=", "<=": "<=", "==": "=="}


@dataclass(frozen=True, slots=True)
class Target:
    """One value's target: `level` as it was written (a number, +gain, qNN or keep)."""

    value: str
    relation: str
    level: str

    @property
    def written(self) -> str:
        """The target without its value's name: =+0.3."""
        return ("=" if self.relation == ">=" else self.relation) + self.level

    def of(self, base: float, rewards: Floats) -> float:
        """The level in the reward's units, from the base level and all base rewards [S]."""
        if self.level == "keep":
            return base
        if self.level.startswith("+"):
            return base + float(self.level[1:])
        if not self.level.startswith("q"):
            return float(self.level)
        quantile = float(np.quantile(rewards, float(self.level[1:]) / 100))
        return min(base, quantile) if self.relation == "<=" else max(base, quantile)


def parse(text: str) -> Target:
    """The target that `text` writes; ConfigError where it is not written as a target is."""
    match = GRAMMAR.fullmatch(text.strip())
    if not match or not _is_percent(match["level"]):
        raise ConfigError(
            f"--target {text}: write VALUE=LEVEL, VALUE=+GAIN, VALUE=qPERCENT or VALUE=keep "
            "(= at least, <= at most, == exactly)"
        )
    return Target(match["value"], RELATIONS[match["sign"]], match["level"])


def _is_percent(level: str) -> bool:
    return not level.startswith("q") or 0 <= float(level[1:]) <= 100


def target_levels(targets: Sequence[Target], base: Floats, rewards: Floats) -> "TargetLevels":
    """The targets in numbers.

    Args:
        targets: as they were asked for [V].
        base: the levels [V] under p0.
        rewards: of all samples [S, V], in the targets' order.
    """
    from exptilt.tilting.target_levels import TargetLevels

    levels = [t.of(float(base[v]), rewards[:, v]) for v, t in enumerate(targets)]
    return TargetLevels(np.array(levels), tuple(t.relation for t in targets))
