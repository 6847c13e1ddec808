"""log p0 of drawn tokens, from the raw log-probabilities of the likeliest tokens at each of them."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from exptilt.engines.base import P0

WHOLE: Final = 1 - 1e-4  # the mass that is all of it, in float32
CLOSE: Final = 1e-3  # what numbers of one token may differ by


def is_raw_law(p0: P0) -> bool:
    """Whether p0 draws by the model's own probabilities."""
    return p0.temperature == 1 and not p0.top_k and p0.top_p == 1


def is_enough(tops: Sequence[float], p0: P0) -> bool:
    """Whether the likeliest tokens, by their raw log-probabilities, are all that p0 keeps, before top_p."""
    return 0 < p0.top_k <= len(tops) or math.fsum(map(math.exp, tops)) > WHOLE


def as_sampled(own: Sequence[float], tops: Sequence[Sequence[float]], p0: P0) -> float | None:
    """log p0 of the tokens as they were sampled, in nats.

    Args:
        own: their raw log-probabilities [T].
        tops: those of the likeliest tokens at each [T][at least top_k, or all there are].
        p0: whose temperature, top_k and top_p, in that order, made the law.

    Returns:
        None where the likeliest tokens are not said, not all that p0 keeps, or a token is none of these.
    """
    if is_raw_law(p0):
        return math.fsum(own)
    if len(tops) != len(own):
        return None
    steps = [_step(token, np.array(top), p0) for token, top in zip(own, tops, strict=True)]
    found = [step for step in steps if step is not None]
    return math.fsum(found) if len(found) == len(own) else None


def _step(own: float, top: np.ndarray, p0: P0) -> float | None:
    """log p0 of one token."""
    raw = np.sort(top)[::-1][: p0.top_k or None]
    if not is_enough(raw.tolist(), p0) or own < raw[-1] - CLOSE:
        return None
    scaled = raw / p0.temperature
    mass = np.exp(scaled - np.logaddexp.reduce(scaled))
    by_mass = int((np.cumsum(mass) - mass < p0.top_p).sum())
    kept = max(by_mass, int((raw > own + CLOSE).sum()) + 1)  # at the edge, rounding decides
    return float(own / p0.temperature - np.logaddexp.reduce(scaled[:kept]))


def mean_nll(prompt: Sequence[float], own: Sequence[float]) -> float | None:
    """The mean negative log-likelihood of a prompt's predicted tokens and a completion's, in nats per token;
    None where there are none."""
    count = len(prompt) + len(own)
    return -(math.fsum(prompt) + math.fsum(own)) / count if count else None
