"""A mean over prompts and its standard error."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error s/√P over P prompts, None for a single prompt."""

    mean: float
    se: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.se is None else f"{self.mean:.4f} ± {self.se:.4f}"


def estimate(total: float, squares: float, count: int) -> Estimate:
    """A mean and its standard error.

    Args:
        total: the numbers' sum.
        squares: the sum of their squares.
        count: how many they are.
    """
    mean = float(total / count)
    if count == 1:
        return Estimate(mean, None)
    variance = max(float(squares / count) - mean**2, 0.0) * count / (count - 1)
    return Estimate(mean, float(np.sqrt(variance / count)))


def estimate_of(per_prompt: np.ndarray) -> Estimate:
    """The mean of numbers [P] and its standard error."""
    mean, count = float(np.mean(per_prompt)), len(per_prompt)
    if count == 1:
        return Estimate(mean, None)
    deviations = per_prompt - mean
    return Estimate(mean, float(np.sqrt(deviations @ deviations / (count - 1) / count)))
