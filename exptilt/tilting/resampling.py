"""Resamplers: which samples are kept, from their log weights. numpy only.

All take log weights [P, N], uniforms [P, M] in [0, 1) with M ≥ max(N, D), and D, the draws per prompt; all
give sample indices [P, D], -1 where there is no draw. With w the normalised weights, the expected number of
copies of sample i is D·w_i for multinomial, systematic and residual. The same uniforms give the same
draws on every machine.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.weights import Floats, normalise

Picks = NDArray[np.int32]
Resampler = Callable[[Floats, Floats, int], Picks]


def multinomial(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """D independent draws, each sample i with probability w_i (Rubin 1988): D draws of p_λ as N grows."""
    return _invert(normalise(log_weight), uniforms[:, :draws])


def systematic(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """One uniform per prompt, stepped by 1/D through the cumulative weights: sample i is kept ⌊D·w_i⌋ or
    ⌈D·w_i⌉ times (Carpenter, Clifford & Fearnhead 1999). The draws of a prompt are not independent."""
    steps = (np.arange(draws) + uniforms[:, :1]) / draws
    return _invert(normalise(log_weight), steps)


def residual(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """⌊D·w_i⌋ copies of sample i, and what is left of D by multinomial draws on what is left of D·w
    (Liu & Chen 1998)."""
    expected = draws * normalise(log_weight)
    whole = np.floor(expected + 1e-12)  # 3 × 1/3 is a whole copy
    kept = whole.astype(int).cumsum(axis=1)
    slots = np.arange(draws)
    certain = (kept[:, None, :] <= slots[:, None]).sum(axis=-1)
    rest = np.maximum(expected - whole, 0.0) + 1e-300
    drawn = _invert(rest / rest.sum(axis=1, keepdims=True), uniforms[:, :draws])
    return np.asarray(np.where(slots < kept[:, -1:], certain, drawn), dtype=np.int32)


def gumbel_top_k(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """D different samples, drawn one after the other by their weights without replacement: the D largest
    of log w_i + Gumbel noise (Kool, van Hoof & Welling 2019). -1 where N < D."""
    n = log_weight.shape[1]
    noise = -np.log(-np.log(np.clip(uniforms[:, :n], 1e-300, 1 - 2**-53)))
    order = np.argsort(-(log_weight + noise), axis=1, kind="stable")[:, :draws]
    return _padded(order, draws)


def rejection(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """The first D samples that are accepted, i with probability exp(log w_i − bound); -1 beyond them.

    The bound is the largest log weight at hand, so that the best sample is always accepted; were it the
    bound over all completions, every accepted sample would be an exact draw of p_λ (von Neumann 1951).
    The acceptance rate is 1/(N·max w).
    """
    n = log_weight.shape[1]
    accepted = uniforms[:, :n] < np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    order = np.argsort(~accepted, axis=1, kind="stable")[:, :draws]
    order = np.where(np.take_along_axis(accepted, order, axis=1), order, -1)
    return _padded(order, draws)


def best_of_n(log_weight: Floats, uniforms: Floats, draws: int) -> Picks:
    """The D samples of largest weight, ties by lot: the limit of any tilt as λ grows, not a draw of p_λ."""
    n = log_weight.shape[1]
    lots = np.argsort(uniforms[:, :n], axis=1, kind="stable")
    shuffled = np.take_along_axis(log_weight, lots, axis=1)
    order = np.argsort(-shuffled, axis=1, kind="stable")[:, :draws]
    return _padded(np.take_along_axis(lots, order, axis=1), draws)


RESAMPLERS: Final[dict[str, Resampler]] = {
    "multinomial": multinomial,
    "systematic": systematic,
    "residual": residual,
    "gumbel-top-k": gumbel_top_k,
    "rejection": rejection,
    "best-of-n": best_of_n,
}


def resample(log_weight: Floats, draws: int = 1, resampler: str = "multinomial", seed: int = 0) -> Picks:
    """Which samples are kept, by a resampler's name.

    Args:
        log_weight: log weights [P, N] in nats.
        draws: D, the draws per prompt.
        resampler: a name of RESAMPLERS.
        seed: of the uniforms; the same seed gives the same draws.

    Returns:
        Sample indices [P, D], -1 where there is no draw.

    Raises:
        ValueError: there is no such resampler.
    """
    if resampler not in RESAMPLERS:
        raise ValueError(f"no resampler {resampler!r}: known are {', '.join(RESAMPLERS)}")
    prompts, n = log_weight.shape
    uniforms = np.random.default_rng(seed).random((prompts, max(n, draws)))
    return RESAMPLERS[resampler](log_weight, uniforms, draws)


def _invert(weight: Floats, points: Floats) -> Picks:
    """The samples [P, D] at `points` [P, D] of the cumulative weights (Devroye 1986, section III.2)."""
    cumulative = np.cumsum(weight, axis=-1)
    thresholds = points * cumulative[:, -1:]
    picks = [(cumulative <= point[:, None]).sum(axis=-1) for point in thresholds.T]
    most = weight.shape[1] - 1
    return np.asarray(np.minimum(np.array(picks).reshape(points.shape[::-1]).T, most), dtype=np.int32)


def _padded(picks: NDArray[np.integer], draws: int) -> Picks:
    """`picks` with -1 in the columns that are missing."""
    missing = draws - picks.shape[1]
    return np.asarray(np.pad(picks, ((0, 0), (0, missing)), constant_values=-1), dtype=np.int32)
