"""What a tilt does, in pictures: each value's distribution before and after, and its level against λ."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.reports import figures
from exptilt.tilting.weights import Floats

Places = NDArray[np.intp]
BARS: Final = 40
SCALES: Final = np.linspace(-1.0, 2.0, 61)
BEFORE, AFTER = "#8a8f98", "#2f7fd1"


def tilt(samples: pl.DataFrame, lam: Mapping[str, float]) -> Any:
    """A row of two pictures for each value.

    Args:
        samples: prompt (a number), weight (of each prompt's, summing to 1) and a column for each value.
        lam: λ by value.
    """
    curves = levels(samples, lam)
    with figures.styled():
        figure, axes = figures.grid(len(lam))
        for value, left, right in zip(lam, axes[::2], axes[1::2], strict=True):
            _distributions(left, samples, value)
            _level(right, curves[value], value, lam)
    return figure


def levels(samples: pl.DataFrame, lam: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Each value's mean over prompts where every λ is multiplied by one of SCALES, [S]."""
    rows = samples.sort("prompt", maintain_order=True)
    counts = rows["prompt"].rle().struct.field("len").to_numpy().astype(np.intp)
    first, rewards = np.cumsum(counts) - counts, rows.select(*lam).to_numpy()
    tilted = rewards @ np.array([*lam.values()])
    means = np.array([_means(scale * tilted, rewards, first, counts) for scale in SCALES])
    return dict(zip(lam, means.T, strict=True))


def _means(log_weight: Floats, rewards: Floats, first: Places, counts: Places) -> Floats:
    """The means over prompts [V] of rewards [S, V] by log weights [S]; a prompt's rows follow each other."""
    weight = np.exp(log_weight - np.repeat(np.maximum.reduceat(log_weight, first), counts))
    sums = np.add.reduceat(np.column_stack([rewards * weight[:, None], weight]), first)
    return np.asarray((sums[:, :-1] / sums[:, -1:]).mean(axis=0))


def _distributions(axis: Any, samples: pl.DataFrame, value: str) -> None:
    rewards, weights = samples[value].to_numpy(), samples["weight"].to_numpy()
    even = samples.select(1 / pl.len().over("prompt")).to_series().to_numpy()
    edges = np.histogram_bin_edges(rewards, BARS)
    prompts = samples["prompt"].n_unique()
    for share, colour, name in ((even, BEFORE, "before the tilt"), (weights, AFTER, "after")):
        counts, _ = np.histogram(rewards, edges, weights=share / prompts)
        axis.stairs(counts, edges, fill=True, color=colour, alpha=0.55, label=name)
    axis.set_xlabel(value)
    axis.set_ylabel("share of the samples")
    axis.legend(frameon=False)


def _level(axis: Any, means: np.ndarray, value: str, lam: Mapping[str, float]) -> None:
    alone = len(lam) == 1
    scale = lam[value] if alone and lam[value] else 1.0
    axis.plot(SCALES * scale, means, color=AFTER)
    axis.axvline(scale, color=BEFORE, linestyle="--", linewidth=1)
    axis.set_xlabel("λ (dashed: this run's)" if alone else "multiple of this run's λ (dashed: 1)")
    axis.set_ylabel(f"mean {value}")
