"""How good a tilt is: ess, max weight, Pareto k-hat, log Z, KL and the samples needed. numpy only.

P prompts, N samples per prompt; every function takes log weights [P, N] in nats and returns [P]. With
ℓ_i the log weights less their maximum, e_i = exp(ℓ_i), Z = Σ e_i and w_i = e_i/Z.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from exptilt.tilting.weights import Floats

LEAST: Final = 1e-300  # of what is divided by: some multiples of its inverse are in float64's range


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Per prompt, [P] each.

    ess: effective sample size 1/Σ w², from 1 to N (Kong 1992); taken from the samples at hand, it flatters
        a strong tilt, so read it beside k-hat and n_needed.
    max_weight: the largest weight, from 1/N to 1.
    khat: Pareto shape of the weights' upper tail (see khat).
    log_z, log_z_se: log of the mean of exp(log weight), and sqrt(1/ess − 1/N) by the delta method (Owen
        2013, section 9.2), in nats.
    kl, kl_se: KL(p_λ‖p0) = Σ w ℓ − log(Z/N), from 0 to log N, and sqrt(Σ (w (ℓ − Σwℓ − 1) + 1/N)²), in nats.
    n_needed: samples that would do (see _needed).
    """

    ess: Floats
    max_weight: Floats
    khat: Floats
    log_z: Floats
    log_z_se: Floats
    kl: Floats
    kl_se: Floats
    n_needed: Floats


def diagnose(log_weight: Floats, tail: bool = True) -> Diagnosis:
    """All diagnostics in one pass.

    Args:
        log_weight: in nats, [P, N].
        tail: whether to fit the tails' shapes; khat is nan without.

    Returns:
        The diagnostics, [P] each.
    """
    n = log_weight.shape[-1]
    top = log_weight.max(axis=-1)
    shifted = log_weight - top[:, None]
    e = np.exp(shifted)
    total = e.sum(axis=-1)
    squares = _dot(e, e) / total**2
    scaled = e * shifted
    first, second = _dot(e, shifted) / total, _dot(scaled, shifted) / total
    kl = np.maximum(first - np.log(total / n), 0.0)
    own = _dot(scaled, scaled) - 2 * (first + 1) * _dot(e, scaled)
    influence = own / total**2 + (first + 1) ** 2 * squares - 1 / n
    return Diagnosis(
        ess=1 / squares,
        max_weight=1 / total,
        khat=khat(log_weight) if tail else np.full(len(log_weight), np.nan),
        log_z=top + np.log(total / n),
        log_z_se=np.sqrt(np.maximum(squares - 1 / n, 0.0)),
        kl=kl,
        kl_se=np.sqrt(np.maximum(influence, 0.0)),
        n_needed=_needed(shifted, kl + np.sqrt(np.maximum(second - first**2, 0.0))),
    )


def _dot(a: Floats, b: Floats) -> Floats:
    """Σ over the last axis of a · b, both [P, N]."""
    return np.asarray(np.einsum("pn,pn->p", a, b), dtype=np.float64)


def _needed(shifted: Floats, seen: Floats) -> Floats:
    """Samples that would do: exp(KL + s), s the deviation of log p_λ/p0 under p_λ; `seen` is KL + s.

    Importance sampling takes about exp(KL) samples, give or take s in the exponent (Chatterjee & Diaconis
    2018, theorem 1.1). Weights at hand cannot show a KL beyond log N, so KL and s are also taken from
    the spread v of the log weights under p0 as if these were normal, KL = v/2 and s = √v, which N
    samples show without bias; the larger demand counts. inf beyond float64; 1 for equal weights.
    """
    with np.errstate(over="ignore"):
        spread = shifted.var(axis=-1, ddof=1) if shifted.shape[-1] > 1 else np.zeros(len(shifted))
        return np.asarray(np.exp(np.maximum(seen, spread / 2 + np.sqrt(spread))), dtype=np.float64)


def khat(log_weight: Floats) -> Floats:
    """Pareto shape of the upper tail of the weights (PSIS; Vehtari et al. 2024, section 2).

    Args:
        log_weight: log weights [P, N] in nats.

    Returns:
        k-hat [P]. Above 0.7 the weighted mean cannot be trusted. inf where the tail holds under 5 samples
        (N < 25): nothing is known then. -inf where the tail is constant.
    """
    n = log_weight.shape[-1]
    size = int(min(0.2 * n, 3 * np.sqrt(n)))
    if size < 5:
        return np.full(len(log_weight), np.inf)
    top = np.sort(log_weight, axis=-1)[:, n - size - 1 :]
    ordered = np.exp(top - top[:, -1:])
    excess = ordered[:, 1:] - ordered[:, :1]
    shapes = np.full(len(log_weight), -np.inf)
    varied = excess[:, -1] > 0
    shapes[varied] = _pareto_shape(excess[varied])
    return shapes


def n_by_tail(shape: Floats) -> Floats:
    """Samples that a tail of weights of some Pareto shape asks for (Vehtari et al. 2024, section 3.2.4).

    Args:
        shape: Pareto shapes k, as khat gives them.

    Returns:
        10^(1/(1 − max(k, 0))) for each, inf from k = 1 on.
    """
    with np.errstate(divide="ignore", over="ignore"):
        power = 1 / np.maximum(1 - np.maximum(shape, 0.0), 0.0)
        return np.asarray(10.0**power, dtype=np.float64)


def _pareto_shape(excess: Floats) -> Floats:
    """Shapes [P] of generalised Pareto distributions fitted to sorted excesses [P, M], by the posterior
    mean of Zhang & Stephens (2009, section 3), with the weak prior of Vehtari et al. (2024, appendix G).

    What has a row for each of the grid's points, [G, P], has its prompts side by side, where numpy is fast.
    """
    m = excess.shape[1]
    grid = np.arange(1, 30 + int(np.sqrt(m)) + 1)[:, None] - 0.5
    theta = 1 / excess[:, -1] + (1 - np.sqrt(len(grid) / grid)) / (3 * _quartile(excess))
    shapes = _mean_log(theta, excess)
    likelihood = m * (np.log(-theta / shapes) - shapes - 1)
    chance = np.exp(likelihood - likelihood.max(axis=0))
    mean_theta = (chance * theta).sum(axis=0) / chance.sum(axis=0)
    shape = np.log1p(-mean_theta[:, None] * excess).mean(axis=1)
    return np.asarray((m * shape + 10 * 0.5) / (m + 10), dtype=np.float64)


def _quartile(excess: Floats) -> Floats:
    """First quartiles [P] of sorted excesses [P, M], or the first that is not 0; LEAST at least."""
    quartile = excess[:, int(excess.shape[1] / 4 + 0.5) - 1].copy()
    none = quartile <= 0
    quartile[none] = np.where(excess[none] > 0, excess[none], np.inf).min(axis=1)
    return np.maximum(quartile, LEAST)


def _mean_log(theta: Floats, excess: Floats) -> Floats:
    """Means over M of log(1 − theta · excess), [G, P] of theta [G, P] and excess [P, M]; holds one term."""
    total, term = np.zeros_like(theta), np.empty_like(theta)
    for column in np.ascontiguousarray(excess.T):
        np.subtract(1, np.multiply(theta, column, out=term), out=term)
        total += np.log(term, out=term)
    return np.asarray(total / excess.shape[1], dtype=np.float64)
