"""The tilt: log weights, their normalisation per prompt, and resampling. numpy only.

P prompts, N samples per prompt, V values, D draws per prompt. For samples y_i ~ p0(.|x) the
self-normalised weights w_i ∝ exp(Σ_v λ_v r_v(x, y_i)) make the weighted samples, and one draw by
them, follow p_λ(y|x) ∝ p0(y|x) exp(Σ_v λ_v r_v(x, y)) as N grows (sampling-importance-resampling:
Rubin 1988; Owen, Monte Carlo theory, methods and examples, section 9.2). All in log space, float64.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_weights(rewards: Floats, lam: Floats) -> Floats:
    """Log weights [P, N] = Σ_v λ_v r_v, from rewards [P, N, V] and lam [V], in the rewards' units."""
    return rewards @ lam


def log_sum_exp(log_weight: Floats) -> Floats:
    """log Σ_i exp(log_weight_i) over the last axis, without overflow; [P, N] → [P]."""
    top = log_weight.max(axis=-1, keepdims=True)
    total = np.exp(log_weight - top).sum(axis=-1)
    return np.asarray(top[..., 0] + np.log(total), dtype=np.float64)


def normalise(log_weight: Floats) -> Floats:
    """Weights that sum to 1 over the last axis: exp(log_weight − log Σ exp log_weight)."""
    shifted = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def resample(log_weight: Floats, uniforms: Floats) -> NDArray[np.int32]:
    """Multinomial draws [P, D]: sample i with its normalised weight, independently per draw.

    `uniforms` [P, D] in [0, 1) are turned into indices by the inverse of the cumulative weights
    (Devroye 1986, section III.2), so the same uniforms give the same draws on every machine.
    """
    cumulative = np.cumsum(normalise(log_weight), axis=-1)
    thresholds = uniforms * cumulative[:, -1:]
    picks = [np.searchsorted(c, u, side="right") for c, u in zip(cumulative, thresholds, strict=True)]
    return np.array(picks, dtype=np.int32).reshape(uniforms.shape)
