"""Moves that leave the tilt as it is: suffix Metropolis–Hastings, its cuts and its acceptance. numpy only.

A state y is all that was drawn of a completion: its tokens, the end token last where one was drawn, those of
a stop text among them, since a path ends by what was drawn and not by what is kept of it. A move cuts y at
one of its |y| places, keeps what is before, and draws the rest from p0 under the same truncation, ends, stops
and cap. With C places in common the proposal is q(z|y) = Σ_{i ≤ C} p0(z)/p0(y_{<i}) / |y|, so that
p0(y) q(z|y) |y| is symmetrical; the acceptance min(1, exp(R(z) − R(y)) |y|/|z|) with R = Σ_v λ_v r_v then
leaves p_λ ∝ p0 exp(R) invariant (QUEST, Faria et al. 2024, arXiv 2406.00049; QAlign, Faria & Smith 2025,
arXiv 2504.03790). S states.
"""

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.weights import Floats

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def path_lengths(n_tokens: NDArray[np.integer], end_token: Flags) -> Ints:
    """|y|, the tokens that were drawn of each state, and so the places at which it can be cut.

    Args:
        n_tokens: tokens without the end token, those of a stop text among them, [S].
        end_token: whether an end token was drawn, [S]; not where a stop text or the cap ended the state.

    Returns:
        Lengths [S], at least 1 for whatever was drawn; what a sample's `tokens` count, where they are known.
    """
    return np.asarray(n_tokens, dtype=np.int64) + np.asarray(end_token, dtype=np.int64)


def cuts(uniforms: Floats, lengths: Ints) -> Ints:
    """How many tokens of each state are kept, each of 0 to |y| − 1 as likely as the others.

    Args:
        uniforms: in [0, 1), [S].
        lengths: |y|, [S].

    Returns:
        Kept tokens [S]. The rest has room for max_new_tokens less them.

    Raises:
        ValueError: a state has no token, and so no place to be cut at.
    """
    if (np.asarray(lengths) < 1).any():
        raise ValueError("a state without tokens cannot be cut: its length counts the end token")
    places = np.floor(uniforms * lengths).astype(np.int64)
    return np.asarray(np.minimum(places, lengths - 1), dtype=np.int64)


def log_acceptance(before: Floats, after: Floats, lengths_before: Ints, lengths_after: Ints) -> Floats:
    """Log probability that a proposal z takes the place of y, min(0, R(z) − R(y) + log |y| − log |z|).

    Args:
        before: R(y) = Σ_v λ_v r_v(x, y), in nats, [S].
        after: R(z), [S].
        lengths_before: |y|, [S].
        lengths_after: |z|, [S].

    Returns:
        Log probabilities [S], from −inf to 0.
    """
    ratio = np.log(lengths_before) - np.log(lengths_after)
    return np.asarray(np.minimum(0.0, after - before + ratio), dtype=np.float64)


def accepted(uniforms: Floats, log_probability: Floats) -> Flags:
    """Whether each proposal is taken: log u < log probability.

    Args:
        uniforms: in [0, 1), [S], independent of those of the cuts.
        log_probability: as log_acceptance gives them, [S].

    Returns:
        Flags [S].
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(uniforms) < log_probability, dtype=np.bool_)
