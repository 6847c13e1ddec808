"""Several rewards as one: standardised members, combined so that their disagreement lowers the number.

A tilt towards one reward model finds where that model errs; a minimum over several, or a mean less their
spread, does so less (Coste et al. 2023, Reward Model Ensembles Help Mitigate Overoptimization,
arXiv 2310.02743). S samples, M members.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def standardised(rewards: Floats, means: Floats, sds: Floats) -> Floats:
    """The rewards [S, M] of members in units of their own sd [M] from their own mean [M]."""
    return (rewards - means) / sds


def spread(members: Floats) -> Floats:
    """The sd [S] across standardised members [S, M], by M - 1."""
    return np.asarray(members.std(axis=1, ddof=1), dtype=np.float64)


RULES: Final[dict[str, Callable[[Floats, float], Floats]]] = {
    "mean": lambda members, k: np.asarray(members.mean(axis=1), dtype=np.float64),
    "min": lambda members, k: np.asarray(members.min(axis=1), dtype=np.float64),
    "mean-k-sd": lambda members, k: np.asarray(members.mean(axis=1) - k * spread(members), dtype=np.float64),
}
