"""The tilt: log weights, their normalisation per prompt, and levels. numpy only.

P prompts, N samples per prompt, V values. For samples y_i ~ p0(.|x) the
self-normalised weights w_i ∝ exp(Σ_v λ_v r_v(x, y_i)) make the weighted samples, and one draw by
them, follow p_λ(y|x) ∝ p0(y|x) exp(Σ_v λ_v r_v(x, y)) as N grows (sampling-importance-resampling:
Rubin 1988; Owen, Monte Carlo theory, methods and examples, section 9.2). All in log space, float64.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_weights(rewards: Floats, lam: Floats) -> Floats:
    """Log weights Σ_v λ_v r_v.

    Args:
        rewards: of every sample and value, [P, N, V].
        lam: the tilt λ, [V], in nats per unit of a value's reward.

    Returns:
        Log weights [P, N], in nats.
    """
    return rewards @ lam


def normalise(log_weight: Floats) -> Floats:
    """Normalised weights, exp(log_weight − log Σ exp log_weight).

    Args:
        log_weight: in nats, of any shape.

    Returns:
        Weights of the same shape, which sum to 1 over the last axis.
    """
    weight = log_weight - log_weight.max(axis=-1, keepdims=True)
    np.exp(weight, out=weight)
    weight /= weight.sum(axis=-1, keepdims=True)
    return np.asarray(weight, dtype=np.float64)


def levels(log_weight: Floats, rewards: Floats) -> Floats:
    """Weighted mean rewards, Σ_i w_i r_iv.

    Args:
        log_weight: in nats, [P, N].
        rewards: [P, N, V].

    Returns:
        Levels [P, V], in the rewards' units.
    """
    return np.asarray((normalise(log_weight)[:, None, :] @ rewards)[:, 0], dtype=np.float64)


def limit_levels(log_weight: Floats, rewards: Floats) -> Floats:
    """Levels with the jackknife's correction for finite N: 2 × levels − mean of the two halves'.

    The bias of a self-normalised mean falls as 1/N at first (Quenouille 1956; Owen 2013, section 9.2);
    where N is far too small it falls more slowly, and this still understates the shift.

    Args:
        log_weight: log weights [P, N] in nats.
        rewards: [P, N, V].

    Returns:
        Levels [P, V].
    """
    if log_weight.shape[-1] < 2:
        return levels(log_weight, rewards)
    halves = [levels(log_weight[:, half::2], rewards[:, half::2]) for half in (0, 1)]
    return np.asarray(2 * levels(log_weight, rewards) - np.mean(halves, axis=0), dtype=np.float64)
