"""How far moves have come: means after each number of moves, and whether two sets of chains bracket the tilt.

Chains begun at the draw rise to p_λ from below. A second set begins above it, at draws refined at 2λ, and
falls. Only where they meet has either arrived: a start at best-of-n lies below a strong tilt, and meets the
first set on the way. Let both sets take the same cuts and the same draws at the same move: chains that meet
stay together then, and their gap has far less noise (Johnson 1996). P prompts, Q of them with a second set,
K moves.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.weights import Floats

SMALL: Final = 0.05
SPREAD: Final = 1.0  # nats
BRACKETED, NOT_CONVERGED = "bracketed", "not converged"
APART: Final = "populations of a prompt are over 1 nat apart in log Ẑ"
EXPLAINED: Final = (
    "Bracketed: the chains begun at draws refined at 2λ begin above where those begun at the draws end, and "
    "their gap at the end and the rise of the latter over the second half of their moves are within two "
    "standard errors by prompt, and these and the errors under 5% of the shift; steered populations of a "
    "prompt are within 1 nat in log Ẑ. Not converged: otherwise."
)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over prompts and its standard error, both in nats; the error of a single prompt is inf."""

    mean: float
    error: float


@dataclass(frozen=True, slots=True)
class Convergence:
    """A verdict, and what it follows from; all in nats, means over prompts.

    verdict: BRACKETED or NOT_CONVERGED; `reason` says why in the latter case and is "" in the former.
    reached: Σ λ r where the first set ends.
    shift: from the base level of p0 to what was reached.
    headroom: from where the first set ends up to where the second begins.
    gap: from where the first set ends up to where the second ends.
    rise: of the first set over the second half of its moves.
    """

    verdict: str
    reason: str
    reached: Mean
    shift: Mean
    headroom: Mean
    gap: Mean
    rise: Mean


def course(series: Floats) -> list[Mean]:
    """The mean of Σ λ r after each number of moves.

    Args:
        series: of each prompt, the mean over its chains after 0 to K moves, [P, K + 1], in nats.

    Returns:
        One mean over prompts for each of the K + 1 columns.
    """
    return [_mean(column) for column in series.T]


def judge(
    base: Floats, first: Floats, second: Floats, rows: NDArray[np.integer], spread: float = 0.0
) -> Convergence:
    """Whether two sets of chains bracket p_λ.

    Args:
        base: mean Σ λ r of each prompt's samples of p0, [P], in nats.
        first: of the chains begun at the draw, each prompt's mean after 0 to K moves, [P, K + 1]; columns may
            be left out if the rest are evenly spaced and the first and the last are there.
        second: the same of the chains begun at draws refined at 2λ, [Q, K + 1].
        rows: which prompts of `first` those of `second` are, [Q].
        spread: the deviation of log Ẑ between a prompt's populations, in nats, where the chains begin at
            steered draws. One over 1 says that populations miss what weighs most, which chains from them may
            miss, too (Doucet, Pitt, Deligiannidis & Kohn 2015, Biometrika 102: of use up to 1 to 1.7).

    Returns:
        The verdict and the differences that it follows from.
    """
    end, paired = first[:, -1], first[rows, -1]
    rise = _mean(end - first[:, (first.shape[1] - 1) // 2])
    found = (_mean(end - base), _mean(second[:, 0] - paired), _mean(second[:, -1] - paired), rise)
    reason = APART if spread > SPREAD else _reason(*found)
    return Convergence(NOT_CONVERGED if reason else BRACKETED, reason, _mean(end), *found)


def _reason(shift: Mean, headroom: Mean, gap: Mean, rise: Mean) -> str:
    """Why the sets do not bracket p_λ, the first cause that holds; "" where they do."""
    small = SMALL * shift.mean
    causes = {
        "one prompt shows no error": np.isinf(max(rise.error, gap.error)),
        "the tilt has not moved the level": small <= 0,
        "the second set does not begin above the first's end": headroom.mean <= 2 * headroom.error,
        "the first set still rises": rise.mean > 2 * rise.error or rise.mean > small,
        "the two sets have not met": abs(gap.mean) > min(2 * gap.error, small),
        "the error of their gap is over 5% of the shift": gap.error > small,
        "the error of the first set's rise is over 5% of the shift": rise.error > small,
        "the first set falls": -rise.mean > min(2 * rise.error, small),
    }
    return next((cause for cause, found in causes.items() if found), "")


def sentence(found: Convergence, moves: int) -> str:
    """The verdict in one line.

    Args:
        found: what `judge` gives.
        moves: K, the moves of each chain.
    """
    made = "1 move reaches" if moves == 1 else f"{moves} moves reach"
    level = f"{made} {found.reached.mean:.3f} ± {found.reached.error:.3f}"
    if found.verdict == BRACKETED:
        return f"bracketed: {level}, and chains from above meet them"
    return f"not converged: {level}; {found.reason}"


def _mean(numbers: Floats) -> Mean:
    """The mean of a number per prompt."""
    count = len(numbers)
    error = numbers.std(ddof=1) / np.sqrt(count) if count > 1 else np.inf
    return Mean(float(numbers.mean()), float(error))
