"""Levels of values over samples at any λ, and the levels that are asked for. numpy alone.

S samples of P prompts, V values, all of them with a target. Levels are means over prompts of the weighted
mean reward.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

AT_LEAST, AT_MOST, EXACTLY = ">=", "<=", "=="


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


def weights(samples: Samples, lam: Floats) -> tuple[Floats, Floats]:
    """The tilt's weights at λ.

    Args:
        samples: rewards and prompts of S samples.
        lam: λ [V].

    Returns:
        Normalised weights [S], which sum to 1 over every prompt, and log Z [P] in nats.
    """
    log_weight = samples.rewards @ lam
    top = np.maximum.reduceat(log_weight, samples.starts)
    shifted = np.exp(log_weight - np.repeat(top, samples.counts))
    total = np.add.reduceat(shifted, samples.starts)
    return shifted / np.repeat(total, samples.counts), top + np.log(total / samples.counts)


def levels(samples: Samples, lam: Floats) -> tuple[Floats, Floats]:
    """What the tilt at λ brings.

    Args:
        samples: rewards and prompts of S samples.
        lam: λ [V].

    Returns:
        Level of every value and its standard error, [V] each. The error is that of a mean over prompts; for
        one prompt, the delta method's over its samples.
    """
    weight, _ = weights(samples, lam)
    weighted = weight[:, None] * samples.rewards
    means = np.add.reduceat(weighted, samples.starts, axis=0)
    level = means.mean(axis=0)
    if len(means) > 1:
        return level, means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return level, np.sqrt(np.square(weight[:, None] * (samples.rewards - level)).sum(axis=0))


def spread(samples: Samples) -> Floats:
    """Standard deviation of every value over all samples, 1 where it does not vary."""
    spread = samples.rewards.std(axis=0)
    return np.where(spread > 0, spread, 1.0)
