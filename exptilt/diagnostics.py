"""How good a tilt is: ess, max weight, Pareto k-hat, log Z and KL per prompt. numpy only.

P prompts, N samples per prompt; every function takes log weights [P, N] and returns [P].
"""

import numpy as np

from exptilt.tilt import Floats, log_sum_exp, normalise


def ess(log_weight: Floats) -> Floats:
    """Effective sample size 1 / Σ_i w_i², between 1 and N (Kong 1992).

    It is computed from the samples at hand and flatters a strong tilt: read it beside k-hat.
    """
    return np.asarray(1.0 / np.square(normalise(log_weight)).sum(axis=-1), dtype=np.float64)


def max_weight(log_weight: Floats) -> Floats:
    """The largest normalised weight, between 1/N and 1."""
    return np.asarray(normalise(log_weight).max(axis=-1), dtype=np.float64)


def log_z(log_weight: Floats) -> Floats:
    """log of the mean of exp(log_weight): the estimate of log E_p0[exp(Σ λ r)], in nats."""
    return np.asarray(log_sum_exp(log_weight) - np.log(log_weight.shape[-1]), dtype=np.float64)


def kl(log_weight: Floats) -> Floats:
    """KL(p_λ‖p0) in nats, estimated as Σ_i w_i log_weight_i − log Z; never negative."""
    top = log_weight.max(axis=-1, keepdims=True)
    shifted = log_weight - top
    mean = (normalise(log_weight) * shifted).sum(axis=-1)
    return np.asarray(np.maximum(mean - log_z(shifted), 0.0), dtype=np.float64)


def khat(log_weight: Floats) -> Floats:
    """Pareto shape of the upper tail of the weights (PSIS; Vehtari et al. 2024, section 2).

    Above 0.7 the weighted mean cannot be trusted. inf where the tail holds under 5 samples (N < 25):
    nothing is known then. -inf where the tail is constant.
    """
    return np.array([_khat(row) for row in log_weight], dtype=np.float64)


def _khat(log_weight: Floats) -> float:
    n = len(log_weight)
    size = int(min(0.2 * n, 3 * np.sqrt(n)))
    if size < 5:
        return np.inf
    ordered = np.sort(np.exp(log_weight - log_weight.max()))
    excess = ordered[-size:] - ordered[-size - 1]
    return _pareto_shape(excess) if excess[-1] > 0 else -np.inf


def _pareto_shape(excess: Floats) -> float:
    """Shape of a generalised Pareto distribution fitted to sorted excesses, by the posterior mean of
    Zhang & Stephens (2009, section 3), with the weak prior of Vehtari et al. (2024, appendix G)."""
    n, positive = len(excess), excess[excess > 0]
    grid = np.arange(1, 30 + int(np.sqrt(n)) + 1) - 0.5
    quartile = max(excess[int(n / 4 + 0.5) - 1], positive[0])
    theta = 1 / excess[-1] + (1 - np.sqrt(len(grid) / grid)) / (3 * quartile)
    shapes = np.log1p(-theta[:, None] * excess).mean(axis=1)
    likelihood = n * (np.log(-theta / shapes) - shapes - 1)
    mean_theta = float((normalise(likelihood) * theta).sum())
    shape = float(np.log1p(-mean_theta * excess).mean())
    return (n * shape + 10 * 0.5) / (n + 10)
