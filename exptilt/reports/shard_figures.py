"""The figures of a shard that has ended, as small as what is shown of them: counts, moments over prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from exptilt.reports.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Moments:
    """Numbers by their count, their mean, and the sum of their squared deviations from it."""

    count: int
    mean: float
    squares: float

    @classmethod
    def of(cls, numbers: NDArray[np.float64]) -> Self:
        """Those of numbers [P]."""
        mean = float(numbers.mean())
        deviations = numbers - mean
        return cls(count=len(numbers), mean=mean, squares=float(deviations @ deviations))

    @classmethod
    def over(cls, parts: Sequence["Moments"]) -> Self:
        """Those of the numbers of all parts."""
        counts, means = np.array([(part.count, part.mean) for part in parts]).T
        mean = float(counts @ means / counts.sum())
        squares = sum(part.squares for part in parts) + counts @ (means - mean) ** 2
        return cls(count=int(counts.sum()), mean=mean, squares=float(squares))

    @property
    def estimate(self) -> Estimate:
        """The mean and its standard error."""
        if self.count == 1:
            return Estimate(self.mean, None)
        return Estimate(self.mean, float(np.sqrt(self.squares / (self.count - 1) / self.count)))


@dataclass(frozen=True, slots=True)
class Level:
    """A value over the prompts: of all samples, and of those kept where the run tilts."""

    before: Moments
    after: Moments | None = None

    @classmethod
    def over(cls, parts: Sequence["Level"]) -> Self:
        """The level over the prompts of all parts."""
        kept = [part.after for part in parts if part.after]
        before = Moments.over([part.before for part in parts])
        return cls(before=before, after=Moments.over(kept) if kept else None)


class ShardFigures(BaseModel):
    """What a shard came to.

    Attributes:
        host: the machine that did it.
        ended: when, in seconds since 1970.
        failed: why it failed; "" where it did not.
        prompts: those that it kept.
        samples: of these.
        tokens: of these samples.
        drawn: samples that were drawn for it now; the others were in the pool.
        drawn_tokens: of those.
        rewards: that were computed for it now.
        levels: by value.
        low: prompts with an ESS under 2.
        short: prompts that are short of samples.
        missing: prompts that are left out, the first of them in words.
        n_missing: how many they are.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    ended: float
    failed: str = ""
    prompts: int = 0
    samples: int = 0
    tokens: int = 0
    drawn: int = 0
    drawn_tokens: int = 0
    rewards: int = 0
    levels: dict[str, Level] = {}
    low: int = 0
    short: int = 0
    missing: tuple[str, ...] = ()
    n_missing: int = 0
