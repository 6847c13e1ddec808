"""The summary of a run at a terminal."""

from rich.console import Console
from rich.table import Table

from exptilt.summary import HEADINGS, Summary, change_row, facts


def show(summary: Summary, console: Console) -> None:
    """Print the warning, if there is one, the values before and after, and the run's facts."""
    if summary.warning:
        console.print(f"warning: {summary.warning}", style="yellow", highlight=False)
    if summary.values:
        table = Table(*HEADINGS, box=None, pad_edge=False, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for change in summary.values:
            table.add_row(*change_row(change))
        console.print(table, highlight=False)
    for name, said in facts(summary):
        console.print(f"{name:<10}{said}", highlight=False, soft_wrap=True)
