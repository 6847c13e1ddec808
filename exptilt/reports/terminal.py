"""The summary of a run at a terminal."""

import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from exptilt.errors import PushFailed
from exptilt.reports import frontier, palette_answer
from exptilt.reports import scores as scores_report
from exptilt.reports.frontier import Frontier
from exptilt.reports.palette_answer import Found
from exptilt.reports.scores import Scores
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import facts as summary_facts
from exptilt.reports.summary_text import levels, places
from exptilt.wording import counted

Outcome = Summary | Scores | Frontier | Found
UNCUT: Final = 10_000  # columns


def console() -> Console:
    """Standard output; a file or a pipe takes lines of any length."""
    return Console(width=None if sys.stdout.isatty() else UNCUT)


def show_saved(error: PushFailed) -> None:
    """Print what a run saved before its data set was not pushed."""
    if isinstance(error.summary, Summary):
        _show_summary(error.summary, console())


def show(outcome: Outcome, console: Console) -> None:
    """Print what a run did."""
    match outcome:
        case Scores():
            _show_scores(outcome, console)
        case Frontier():
            _show_frontier(outcome, console)
        case Found():
            _show_palette(outcome, console)
        case _:
            _show_summary(outcome, console)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    left: Sequence[int] = (),
) -> None:
    """Print a table, its first column and those at the places `left` as texts, the others as numbers."""
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(table.columns):
        column.justify = "left" if place in (0, *left) else "right"
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)


def print_facts(facts: Sequence[tuple[str, str]], console: Console) -> None:
    """Print lines, each with what it is of before it."""
    for name, said in facts:
        console.print(f"{name:<12}{said}", highlight=False, soft_wrap=True)


def _show_frontier(found: Frontier, console: Console) -> None:
    print_table(frontier.headings(found), frontier.rows(found), console)
    places = [("points", found.json), ("picture", f"{found.folder}/frontier.png")]
    places.append(("page", f"{found.folder}/index.html"))
    print_facts([*places, *found.saved, *found.missing_rows], console)


def _show_palette(found: Found, console: Console) -> None:
    for sentence in palette_answer.sentences(found):
        console.print(
            sentence, style="green" if found.feasible else "yellow", highlight=False, soft_wrap=True
        )
    print_table(palette_answer.HEADINGS, [palette_answer.row(level) for level in found.levels], console)
    print_facts(palette_answer.facts(found), console)


def _show_scores(scores: Scores, console: Console) -> None:
    """Print each value's means, and where the records are."""
    print_table(*scores_report.table(scores), console)
    reused = ", ".join(f"{value} {count}/{scores.shards}" for value, count in scores.reused.items())
    records = f"{scores.records:,} in {scores.file}"
    cut = [
        ("too long", f"{counted(count, 'text')} cut for {value}")
        for value, count in scores.cut.items()
        if count
    ]
    left = [("left out", f"{counted(count, 'record')}: {why}") for why, count in scores.skipped.items()]
    print_facts([("reused", f"shards of {reused}"), *cut, *left, ("records", records)], console)


def _show_summary(summary: Summary, console: Console) -> None:
    """Print the verdict, the values before and after, and the run's facts."""
    if summary.warning:
        console.print(f"warning: {summary.warning}", style="yellow", highlight=False, soft_wrap=True)
    elif summary.sentence:
        console.print(summary.sentence, style="green", highlight=False, soft_wrap=True)
    if summary.values:
        print_table(*levels(summary), console)
    print_facts([*summary_facts(summary), *places(summary)], console)
