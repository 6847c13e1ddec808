"""What a prefix's reward promises: potentials of steering, fitted on samples of other prompts. numpy only.

ψ = exp(a + b R(prefix)) is to be E[exp R(whole) | prefix], and not exp E[R(whole) | prefix]: particles that
have ended carry exp R, and those that go on would be given up against them. So b is a regression within
prompts, as differences between prompts steer nothing, and a has the log of the mean of exp of its residuals.
S samples that went on behind the block.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.weights import Floats

LEAST: Final = 32  # samples beyond one per prompt, to fit on
CLEAR: Final = 2.0  # standard errors of b from 0


@dataclass(frozen=True, slots=True)
class Potential:
    """log ψ = intercept + slope · R(prefix), in nats; a slope of 0 says that the block does not steer.

    error: the slope's standard error, inf where there are too few samples.
    explained: the share of the variance of R(whole) within prompts that R(prefix) explains.
    """

    intercept: float
    slope: float
    error: float
    explained: float


NONE: Final = Potential(0.0, 0.0, np.inf, 0.0)


def fit(prefix: Floats, whole: Floats, prompts: NDArray[np.integer]) -> Potential:
    """The potential of a block, from samples of other prompts that have not ended before it.

    Args:
        prefix: R = Σ_v λ_v r_v of each sample's tokens up to the block's end, in nats, [S].
        whole: R of the whole sample, [S].
        prompts: which prompt each is of, any integers, [S].

    Returns:
        The potential; its slope is 0 where there are fewer than LEAST samples beyond one per prompt, or where
        it is within CLEAR standard errors of 0.
    """
    _, group, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    freedom = len(group) - len(counts) - 1
    if freedom < LEAST:
        return NONE
    x, y = (numbers - _means(numbers, group, counts)[group] for numbers in (prefix, whole))
    spread, total = float(x @ x), float(y @ y)
    if spread <= 1e-12 * max(float(prefix @ prefix), 1e-300) or total == 0:
        return NONE
    slope = float(x @ y) / spread
    residual = y - slope * x
    left = float(residual @ residual)
    error = float(np.sqrt(left / freedom / spread))
    kept = slope if abs(slope) > CLEAR * error else 0.0
    intercept = _intercept(whole - kept * prefix, group, counts)
    return Potential(intercept, kept, error, 1 - left / total)


def _means(numbers: Floats, group: NDArray[np.integer], counts: NDArray[np.integer]) -> Floats:
    """The mean of each prompt."""
    return np.bincount(group, weights=numbers, minlength=len(counts)) / counts


def _intercept(rest: Floats, group: NDArray[np.integer], counts: NDArray[np.integer]) -> float:
    """The mean over prompts of their levels, and log of the mean of exp of what is left within prompts; from
    a prompt's own mean a residual is too small by √(1 − 1/m) of m samples."""
    level = _means(rest, group, counts)
    several = counts > 1
    grown = np.sqrt(counts[several] / (counts[several] - 1))
    place = np.cumsum(several) - 1
    inside = several[group]
    residual = (rest - level[group])[inside] * grown[place[group[inside]]]
    top = residual.max()
    return float(level.mean() + top + np.log(np.exp(residual - top).mean()))
