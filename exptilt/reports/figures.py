"""Pictures: a sweep's frontier, and what a tilt asks of its samples. matplotlib, without a display."""

import io
import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from exptilt.reports.frontier import Frontier
    from exptilt.reports.palette_answer import Found, Level
    from exptilt.reports.summary import Summary
    from exptilt.reports.totals import Bars

COLOURS: Final = {
    "sound": "#1b7f5c",
    "strained": "#c9820a",
    "best-of-n in disguise": "#b3261e",
    "nothing to choose": "#777777",
}
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}
MOST_PAIRS: Final = 15
WIDTH, HEIGHT = 3.4, 2.8  # inches, of a picture
TICKS: Final = 4  # intervals of an axis; drawing these is most of what a page's pictures take


def grid(rows: int) -> tuple[Any, list[Any]]:
    """A figure of `rows` rows of two pictures, and its axes, at places that take no search for them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * WIDTH, HEIGHT * rows))
    figure.subplots_adjust(0.09, 0.17 / rows, 0.99, 1 - 0.04 / rows, wspace=0.25, hspace=0.3)
    axes = [figure.add_subplot(rows, 2, place + 1) for place in range(2 * rows)]
    for axis in axes:
        axis.locator_params(nbins=TICKS)
    return figure, axes


def styled() -> Any:
    """The block in which figures are made, by one style."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    return matplotlib.rc_context(STYLE)


def frontier(found: "Frontier") -> Any:
    """Each value against KL, then the values against each other; one dot per λ, coloured by verdict."""
    pairs = list(itertools.combinations(range(len(found.values)), 2))[:MOST_PAIRS]
    count = len(found.values) + len(pairs)
    columns = min(3, count)
    with styled():
        figure = _empty(columns, -(-count // columns))
        axes = [figure.add_subplot(-(-count // columns), columns, i + 1) for i in range(count)]
        for v, axis in enumerate(axes[: len(found.values)]):
            _against_kl(axis, found, v)
        for (a, b), axis in zip(pairs, axes[len(found.values) :], strict=True):
            _pair(axis, found, a, b)
        _legend(figure, [point.verdict for point in found.points])
    return figure


def _empty(columns: int, rows: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")


def _against_kl(axis: Any, found: "Frontier", v: int) -> None:
    axis.axhline(found.base[v].mean, color="#999999", linestyle="--", linewidth=1)
    for point in found.points:
        level = point.levels[v]
        colour = COLOURS[point.verdict]
        axis.errorbar(point.kl.mean, level.mean, yerr=level.se, fmt="o", ms=4, color=colour, capsize=2)
        _number(axis, point.number, point.kl.mean, level.mean)
    axis.set_xlabel("KL(p_λ‖p0), nats per prompt")
    axis.set_ylabel(found.values[v])


def _pair(axis: Any, found: "Frontier", a: int, b: int) -> None:
    axis.plot(found.base[a].mean, found.base[b].mean, "x", color="#777777")
    for point in found.points:
        x, y = point.levels[a], point.levels[b]
        colour = COLOURS[point.verdict]
        axis.errorbar(x.mean, y.mean, xerr=x.se, yerr=y.se, fmt="o", ms=4, color=colour, capsize=2)
        _number(axis, point.number, x.mean, y.mean)
    axis.set_xlabel(found.values[a])
    axis.set_ylabel(found.values[b])


def _number(axis: Any, number: int, x: float, y: float) -> None:
    axis.annotate(str(number), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)


def _legend(figure: Any, verdicts: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    shown = [word for word in COLOURS if word in verdicts]
    marks = [Line2D([], [], color=COLOURS[word], marker="o", linestyle="", label=word) for word in shown]
    figure.legend(handles=marks, loc="outside lower center", ncols=max(len(marks), 1), frameon=False)


def palette(found: "Found") -> Any:
    """For each value its levels with standard errors, the target as a dashed line."""
    columns = min(3, len(found.levels))
    rows = -(-len(found.levels) // columns)
    with styled():
        figure = _empty(columns, rows)
        for place, level in enumerate(found.levels):
            _levels(figure.add_subplot(rows, columns, place + 1), level)
    return figure


def _levels(axis: Any, level: "Level") -> None:
    above = {"delivered": level.delivered, "held out": level.held_out}  # from the bottom upwards
    shown = {**above, "level": level.level, "base": level.base}
    known = {name: estimate for name, estimate in shown.items() if estimate}
    for height, estimate in enumerate(known.values()):
        colour = "#777777" if estimate is level.base else COLOURS["sound"]
        axis.errorbar(estimate.mean, height, xerr=estimate.se, fmt="o", ms=4, color=colour, capsize=2)
    axis.axvline(level.target_level, color=COLOURS["strained"], linestyle="--", linewidth=1)
    axis.set_yticks(range(len(known)), known)
    axis.set_ylim(-0.5, len(known) - 0.5)
    axis.set_xlabel(f"{level.value}, target {level.target}")


def certificate(summary: "Summary", ess: "Bars", needed: "Bars") -> Any:
    """Two histograms over prompts: the ESS, and the samples needed beside the n at hand."""
    from matplotlib.ticker import EngFormatter, LogFormatter

    colour = COLOURS[summary.verdict]
    with styled():
        figure, (left, right) = grid(1)
        for axis, (edges, counts) in ((left, ess), (right, needed)):
            axis.stairs(counts, edges, fill=True, color=colour)
        left.set_xlabel(f"effective sample size, of {summary.n}")
        left.set_ylabel("prompts")
        right.axvline(summary.n, color="#777777", linestyle="--", linewidth=1)
        right.set_xscale("log")
        right.xaxis.set_major_formatter(EngFormatter(sep=""))  # as text: formulas take ten times as long
        right.xaxis.set_minor_formatter(LogFormatter())
        right.set_xlabel("samples needed (dashed: n)")
    return figure


def png(figure: Any) -> bytes:
    """The figure as PNG."""
    return _saved(figure, "png")


def svg(figure: Any) -> str:
    """The figure as an SVG element, in the colour of the text around it, on any background."""
    text = _saved(figure, "svg").decode().replace("#000000", "currentColor")
    return text[text.index("<svg") :]


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    with styled():
        own = {"metadata": {"Date": None}, "transparent": True} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=150, **own)
    return buffer.getvalue()
