"""The summary of a run at a terminal."""

from rich.console import Console
from rich.table import Table

from exptilt.scoring import Scores
from exptilt.summary import HEADINGS, Summary, change_row, with_error
from exptilt.summary import facts as summary_facts


def show(outcome: Summary | Scores, console: Console) -> None:
    """Print what a run did."""
    if isinstance(outcome, Scores):
        _show_scores(outcome, console)
    else:
        _show_summary(outcome, console)


def _show_scores(scores: Scores, console: Console) -> None:
    """Print each value's mean, and where the records are."""
    table = Table("value", "mean", box=None, pad_edge=False, header_style="bold")
    for value, (mean, error) in scores.means.items():
        table.add_row(value, with_error(mean, error))
    console.print(table, highlight=False)
    reused = ", ".join(f"{value} {count}/{scores.shards}" for value, count in scores.reused.items())
    for name, said in (
        ("reused", f"shards of {reused}"),
        ("records", f"{scores.records:,} in {scores.file}"),
    ):
        console.print(f"{name:<12}{said}", highlight=False, soft_wrap=True)


def _show_summary(summary: Summary, console: Console) -> None:
    """Print the warning, if there is one, the values before and after, and the run's facts."""
    if summary.warning:
        console.print(f"warning: {summary.warning}", style="yellow", highlight=False, soft_wrap=True)
    if summary.values:
        table = Table(*HEADINGS, box=None, pad_edge=False, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for change in summary.values:
            table.add_row(*change_row(change))
        console.print(table, highlight=False)
    for name, said in summary_facts(summary):
        console.print(f"{name:<12}{said}", highlight=False, soft_wrap=True)
