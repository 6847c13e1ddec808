"""λ from targets: the tilt of least KL that reaches target levels, where one does (see feasibility).

The least Σ KL(q_x‖p0)/P under the target levels c is a tilt, q = p_λ, whose λ minimises the convex dual
(1/P) Σ_x log[(1/n_x) Σ_i exp(λᵀ(r_xi − c))], λ_v ≥ 0 for "at least" (maximum-entropy duality: Csiszár 1975;
MAP, arXiv 2410.19198, section 3, which pools all prompts under one normaliser).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.feasibility import reach
from exptilt.tilting.target_levels import (
    AT_LEAST,
    AT_MOST,
    EXACTLY,
    Floats,
    Samples,
    TargetLevels,
    levels,
    spread,
    weights,
)

BOUNDS: Final = {AT_LEAST: (0.0, None), AT_MOST: (None, 0.0), EXACTLY: (None, None)}
SOLVED: Final = 1e-6  # the largest KKT residual of a solution, in standard deviations of the rewards


@dataclass(frozen=True, slots=True)
class Solution:
    """λ [V], the levels [V] and KL (nats per prompt) that it brings, and the proof that it is optimal.

    `gradient` [V] is level − target; `residual` the largest violation of the Karush-Kuhn-Tucker
    conditions in standard deviations; `gap` ≥ 0 the duality gap in nats.
    """

    lam: Floats
    levels: Floats
    kl: float
    gradient: Floats
    residual: float
    gap: float


def solve(samples: Samples, target: TargetLevels) -> Solution:
    """The λ of least KL whose levels are the targets.

    Args:
        samples: rewards and prompts of S samples.
        target: the levels [V] that are asked for, which must be feasible (see feasibility.reach).

    Returns:
        λ, what it brings, and the proof that it is optimal.

    Raises:
        ValueError: the optimiser ended away from the optimum.
    """
    from scipy.optimize import minimize

    scale = spread(samples)
    scaled = samples.scaled(target.levels, scale)

    def dual(lam: Floats) -> tuple[float, Floats]:
        weight, log_z = weights(scaled, lam)
        return float(log_z.mean()), weight @ scaled.rewards / len(scaled.starts)

    bounds = [BOUNDS[relation] for relation in target.relations]
    found = minimize(
        dual,
        np.zeros(len(scale)),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10_000, "ftol": 0.0, "gtol": 1e-10, "maxcor": 50},
    )
    value, gradient = dual(found.x)
    residual = float(np.abs(_projected(found.x, gradient, bounds)).max())
    if residual > SOLVED:
        raise ValueError(f"the optimiser stopped {residual:.1e} standard deviations from the optimum")
    gap = float(found.x @ gradient)
    level = target.levels + gradient * scale
    return Solution(found.x / scale, level, gap - value, gradient * scale, residual, gap)


def _projected(lam: Floats, gradient: Floats, bounds: list[tuple[float | None, float | None]]) -> Floats:
    """The gradient without what a bound holds back: 0 at the optimum."""
    lows = np.array([-np.inf if low is None else low for low, _ in bounds])
    highs = np.array([np.inf if high is None else high for _, high in bounds])
    return np.asarray(lam - np.clip(lam - gradient, lows, highs), dtype=np.float64)


def checked(
    samples: Samples, target: TargetLevels, held: NDArray[np.bool_], pooled: bool
) -> tuple[Floats, Floats]:
    """How well the λ that some prompts ask for meets the targets on the others.

    Args:
        samples: rewards and prompts of all samples.
        target: the levels [V] that are asked for.
        held: which prompts [P] are held out; λ is solved on the others.
        pooled: whether one normaliser is used for all prompts together.

    Returns:
        Levels and errors [V] on the held-out prompts.

    Raises:
        ValueError: where the other prompts alone cannot reach the targets.
    """
    others, mine = samples.of(~held), samples.of(held)
    if pooled:
        others, mine = others.pooled(), mine.pooled()
    if not reach(others, target).feasible:
        raise ValueError("without the held-out prompts the targets are out of reach")
    return levels(mine, solve(others, target).lam)
