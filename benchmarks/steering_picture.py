"""The picture of the table of steering: total variation against tokens generated, a panel for each tilt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from exptilt.reports import figures

WAYS: Final = {
    "resample": ("#777777", "o", "-"),
    "best of n": ("#b3261e", "s", ":"),
    "resample, refine": ("#1b7f5c", "o", "-"),
    "steer, noisy, refine": ("#2f5fb3", "^", "--"),
    "steer, exact, refine": ("#2f5fb3", "^", "-"),
}
TICKS: Final = (100, 300, 1000, 3000)  # tokens


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Write a PNG of the ways of WAYS that are among the rows.

    Args:
        rows: `strength`, `way`, `tokens` and `distance` of each.
        file: where to.
    """
    from matplotlib.figure import Figure

    strengths = sorted({row["strength"] for row in rows})
    with figures.styled():
        figure = Figure(figsize=(2.6 * len(strengths), 3.1), layout="constrained")
        axes = figure.subplots(1, len(strengths), squeeze=False)[0]
        for strength, axis in zip(strengths, axes, strict=True):
            _panel(axis, [row for row in rows if row["strength"] == strength], f"λσ = {strength:g}")
        axes[0].set_ylabel("total variation from p_λ")
        handles, labels = axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(WAYS), frameon=False)
        figure.savefig(file, dpi=150)


def _panel(axis: Any, rows: list[dict[str, Any]], title: str) -> None:
    for way, (colour, marker, line) in WAYS.items():
        points = sorted((row["tokens"], row["distance"]) for row in rows if row["way"] == way)
        if points:
            axis.plot(*zip(*points, strict=True), line, color=colour, marker=marker, ms=4, label=way)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.002, 1.0)
    axis.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axis.set_xticks([], minor=True)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("tokens generated per prompt")
