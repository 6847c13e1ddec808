"""λ from targets: the tilt of least KL that reaches target levels, and whether any can. numpy, scipy.

S samples of P prompts, V values, all of them with a target. Levels are means over prompts of the weighted
mean reward. The least Σ KL(q_x‖p0)/P under the target levels c is a tilt, q = p_λ, whose λ minimises the
convex dual (1/P) Σ_x log[(1/n_x) Σ_i exp(λᵀ(r_xi − c))], λ_v ≥ 0 for "at least" (maximum-entropy duality:
Csiszár 1975; MAP, arXiv 2410.19198, section 3, which pools all prompts under one normaliser).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize
from scipy.stats import norm

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

AT_LEAST, AT_MOST, EXACTLY = ">=", "<=", "=="
BOUNDS: Final = {AT_LEAST: (0.0, None), AT_MOST: (None, 0.0), EXACTLY: (None, None)}
SIGNS: Final = {AT_LEAST: (1.0,), AT_MOST: (-1.0,), EXACTLY: (1.0, -1.0)}
EDGE: Final = 1e-6  # targets that can be overshot by less than this share of its way lie at the edge
SOLVED: Final = 1e-6  # the largest KKT residual of a solution, in standard deviations of the rewards
COLUMNS: Final = 500  # steps to decide feasibility; a few dozen are usual
TOLERANCE: Final = 2e-7  # the linear program's own is 1e-7


@dataclass(frozen=True, slots=True)
class Samples:
    """Rewards [S, V], those of a prompt side by side; `starts` [P] holds each prompt's first row."""

    rewards: Floats
    starts: Ints

    @property
    def counts(self) -> Ints:
        """Samples per prompt [P]."""
        return np.diff(np.append(self.starts, len(self.rewards)))

    def pooled(self) -> "Samples":
        """The same samples as if of one prompt: one normaliser for all."""
        return Samples(self.rewards, np.zeros(1, dtype=np.intp))

    def of(self, prompts: NDArray[np.bool_]) -> "Samples":
        """The samples of the prompts [P] that are marked."""
        counts = self.counts[prompts]
        return Samples(
            self.rewards[np.repeat(prompts, self.counts)], (np.cumsum(counts) - counts).astype(np.intp)
        )

    def scaled(self, centre: Floats, scale: Floats) -> "Samples":
        """The same samples in units of `scale` around `centre`."""
        return Samples((self.rewards - centre) / scale, self.starts)


@dataclass(frozen=True, slots=True)
class TargetLevels:
    """Target levels [V], each with >= (at least), <= (at most) or == (exactly)."""

    levels: Floats
    relations: tuple[str, ...]


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


def weights(samples: Samples, lam: Floats) -> tuple[Floats, Floats]:
    """Normalised weights [S], which sum to 1 over every prompt, and log Z [P] in nats."""
    log_weight = samples.rewards @ lam
    top = np.maximum.reduceat(log_weight, samples.starts)
    shifted = np.exp(log_weight - np.repeat(top, samples.counts))
    total = np.add.reduceat(shifted, samples.starts)
    return shifted / np.repeat(total, samples.counts), top + np.log(total / samples.counts)


def levels(samples: Samples, lam: Floats) -> tuple[Floats, Floats]:
    """Level of every value at λ and its standard error, [V] each.

    The error is that of a mean over prompts; for one prompt, the delta method's over its samples.
    """
    weight, _ = weights(samples, lam)
    weighted = weight[:, None] * samples.rewards
    means = np.add.reduceat(weighted, samples.starts, axis=0)
    level = means.mean(axis=0)
    if len(means) > 1:
        return level, means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return level, np.sqrt(np.square(weight[:, None] * (samples.rewards - level)).sum(axis=0))


def solve(samples: Samples, target: TargetLevels) -> Solution:
    """The λ of least KL whose levels are the targets. The targets must be feasible (see reach).

    Raises ValueError where the optimiser ends away from the optimum.
    """
    scale = _spread(samples)
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


def _spread(samples: Samples) -> Floats:
    """Standard deviation of every value over all samples, 1 where it does not vary."""
    spread = samples.rewards.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def _projected(lam: Floats, gradient: Floats, bounds: list[tuple[float | None, float | None]]) -> Floats:
    """The gradient without what a bound holds back: 0 at the optimum."""
    lows = np.array([-np.inf if low is None else low for low, _ in bounds])
    highs = np.array([np.inf if high is None else high for _, high in bounds])
    return np.asarray(lam - np.clip(lam - gradient, lows, highs), dtype=np.float64)


def reach(samples: Samples, target: TargetLevels) -> Reach:
    """Whether the targets can be reached, decided by a linear program over all reweightings of the samples.

    max s such that some q_x ≥ 0, Σ_i q_xi = 1, has the levels base + s (target − base). Its columns are
    the best samples of every prompt in one direction, and are made as the program asks for them
    (Dantzig & Wolfe 1960), so its size is that of the targets, not of the data.
    """
    base = levels(samples, np.zeros(len(target.levels)))[0]
    scale = _spread(samples)
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
    n = float(np.median(samples.counts))
    along = samples.rewards[:, chosen] @ direction
    mean = float(np.mean(np.add.reduceat(along, samples.starts) / samples.counts))
    if n < 2 or share <= mean:
        return None
    spread = (share - mean) / norm.ppf((n - 0.375) / (n + 0.25))
    beyond = float(norm.sf((1 - mean) / spread))
    return (0.25 * (1 - beyond) + 0.375) / beyond if beyond > 0 else np.inf


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
