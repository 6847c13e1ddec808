"""Whether any reweighting of the samples reaches target levels, and how far towards them it goes.

S samples of P prompts, V values, K constraints: two for a value that is to be met exactly, else one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from exptilt.tilting.target_levels import (
    AT_LEAST,
    AT_MOST,
    EXACTLY,
    Floats,
    Ints,
    Samples,
    TargetLevels,
    levels,
    spread,
)

SIGNS: Final = {AT_LEAST: (1.0,), AT_MOST: (-1.0,), EXACTLY: (1.0, -1.0)}
EDGE: Final = 1e-6  # targets that can be overshot by less than this share of its way lie at the edge
COLUMNS: Final = 500  # steps to decide feasibility; a few dozen are usual
TOLERANCE: Final = 2e-7  # the linear program's own is 1e-7


@dataclass(frozen=True, slots=True)
class Reach:
    """How far from the base levels towards the targets any reweighting of the samples can go.

    `share` is that part of the way, at most 2: above 1 the targets are feasible. `levels` [V] are those at
    the end of the reachable way, capped at the targets; `pull` [V] ≥ 0 says how much each value's target
    holds the others back, 0 for a value without a part in the conflict; `samples_needed` per prompt
    would bring the targets into reach if rewards were normal (None where it is, or nothing can be said).
    """

    share: float
    levels: Floats
    pull: Floats
    samples_needed: float | None

    @property
    def feasible(self) -> bool:
        """Whether some λ reaches the targets."""
        return self.share > 1 + EDGE


def reach(samples: Samples, target: TargetLevels) -> Reach:
    """Whether the targets can be reached, decided by a linear program over all reweightings of the samples.

    max s such that some q_x ≥ 0, Σ_i q_xi = 1, has the levels base + s (target − base). Its columns are
    the best samples of every prompt in one direction, and are made as the program asks for them
    (Dantzig & Wolfe 1960), so its size is that of the targets, not of the data.

    Args:
        samples: rewards and prompts of S samples.
        target: the levels [V] that are asked for.

    Returns:
        How far any reweighting goes.

    Raises:
        ValueError: it was not decided within COLUMNS steps.
    """
    base = levels(samples, np.zeros(len(target.levels)))[0]
    scale = spread(samples)
    scaled = samples.scaled(base, scale)
    way = (target.levels - base) / scale
    rows = [(v, sign) for v, relation in enumerate(target.relations) for sign in SIGNS[relation]]
    chosen, signs = np.array([v for v, _ in rows]), np.array([sign for _, sign in rows])
    share, pull = _farthest(scaled, signs * way[chosen], chosen, signs)
    each = np.bincount(chosen, weights=pull, minlength=len(way)).astype(np.float64)
    needed = None if share > 1 + EDGE else _samples_needed(scaled, chosen, signs * pull, share)
    return Reach(share, base + min(share, 1.0) * way * scale, each, needed)


def _farthest(samples: Samples, way: Floats, chosen: Ints, signs: Floats) -> tuple[float, Floats]:
    """The largest share of `way` [K] that can be reached, at most 2, and the constraints' multipliers [K]."""
    from scipy.optimize import linprog

    columns = [np.zeros(len(way))]  # the base levels themselves
    for _ in range(COLUMNS):
        table = -np.array(columns).T
        found = linprog(
            np.append(np.zeros(len(columns)), -1.0),
            A_ub=np.column_stack([table, way]),
            b_ub=np.zeros(len(way)),
            A_eq=np.append(np.ones(len(columns)), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * len(columns) + [(0, 2)],
        )
        pull, best = -found.ineqlin.marginals, -found.eqlin.marginals[0]
        point = signs * _best(samples, chosen, signs * pull)[chosen]
        if pull @ point <= best + TOLERANCE * (1 + abs(best)):
            return float(found.x[-1]), np.asarray(pull, dtype=np.float64)
        columns.append(point)
    raise ValueError(f"feasibility was not decided within {COLUMNS} steps")


def _best(samples: Samples, chosen: Ints, direction: Floats) -> Floats:
    """Levels [V] when every prompt keeps its farthest sample along `direction` [K] alone."""
    along = samples.rewards[:, chosen] @ direction
    top = np.repeat(np.maximum.reduceat(along, samples.starts), samples.counts)
    first = np.flatnonzero(along == top)
    prompt = np.repeat(np.arange(len(samples.starts)), samples.counts)[first]
    kept = first[np.unique(prompt, return_index=True)[1]]
    return np.asarray(samples.rewards[kept].mean(axis=0), dtype=np.float64)


def _samples_needed(samples: Samples, chosen: Ints, direction: Floats, share: float) -> float | None:
    """Samples per prompt whose best ones along `direction` would reach 1, the targets, were they normal.

    The largest of n normals lies about Φ⁻¹((n − 3/8)/(n + 1/4)) deviations out (Blom 1958); the deviation
    is taken from how far the best of the samples at hand go, which is `share`.
    """
    from scipy.special import ndtr, ndtri

    n = float(np.median(samples.counts))
    along = samples.rewards[:, chosen] @ direction
    mean = float(np.mean(np.add.reduceat(along, samples.starts) / samples.counts))
    if n < 2 or share <= mean:
        return None
    spread = (share - mean) / ndtri((n - 0.375) / (n + 0.25))
    beyond = float(ndtr((mean - 1) / spread))
    return (0.25 * (1 - beyond) + 0.375) / beyond if beyond > 0 else np.inf
