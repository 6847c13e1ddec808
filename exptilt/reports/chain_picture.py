"""How far moves came, in a picture: Σ λ r after each number of moves, of both sets of chains."""

from typing import Any

from exptilt.reports import figures
from exptilt.reports.refinement import Point, Refinement
from exptilt.wording import counted

FIRST, SECOND = "#2f7fd1", "#c9820a"


def course(found: Refinement) -> Any:
    """The means over prompts with their standard errors, from 0 moves on."""
    from matplotlib.figure import Figure

    with figures.styled():
        figure = Figure(figsize=(2 * figures.WIDTH, figures.HEIGHT))
        figure.subplots_adjust(0.09, 0.17, 0.99, 0.96)
        axis = figure.add_subplot()
        _line(axis, found.course, FIRST, "from the draws")
        _line(axis, found.above, SECOND, f"from 2 λ, {counted(found.certified, 'prompt')}")
        axis.set_xlabel("moves")
        axis.set_ylabel("Σ λ r, in nats")
        axis.legend(frameon=False)
    return figure


def _line(axis: Any, points: list[Point], colour: str, name: str) -> None:
    if not points:
        return
    levels = [point.level for point in points]
    axis.errorbar(
        [point.moves for point in points],
        [level.mean for level in levels],
        yerr=[level.se or 0.0 for level in levels],
        fmt="o-",
        ms=3,
        linewidth=1,
        capsize=2,
        color=colour,
        label=name,
    )
