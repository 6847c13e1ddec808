"""One prompt with its completions, at a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exptilt.reports.shown import ShownPrompt, ShownSample
from exptilt.wording import counted


def show(prompt: ShownPrompt, console: Console) -> None:
    """Print the prompt, then its completions by weight, those kept marked."""
    console.print(Text(_heading(prompt), style="bold"), soft_wrap=True)
    for role, text in prompt.turns:
        console.print(Text(f"{role}: {text}" if role else text), soft_wrap=True)
    if prompt.reference:
        console.print(Text(f"reference answer: {prompt.reference}", style="dim"), soft_wrap=True)
    console.print(_table(prompt))
    if left := prompt.count - len(prompt.samples):
        console.print(f"and {counted(left, 'completion')} of smaller weight", highlight=False)


def _heading(prompt: ShownPrompt) -> str:
    parts = [f"prompt {prompt.index} ({prompt.prompt_id})", counted(prompt.count, "sample")]
    if prompt.ess is not None and prompt.needed is not None:
        parts += [f"ESS {prompt.ess:.1f}", f"{prompt.needed:,.0f} needed", prompt.verdict]
    return ", ".join(parts)


def _table(prompt: ShownPrompt) -> Table:
    table = Table("kept", "weight", *prompt.samples[0].numbers, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_column("completion", overflow="fold")
    for sample in (*prompt.refined, *prompt.samples):
        numbers = ["" if number is None else f"{number:.4g}" for number in sample.numbers.values()]
        weight = "" if sample.weight is None else f"{sample.weight:.3f}"
        table.add_row(_mark(sample), weight, *numbers, Text(sample.completion))
    return table


def _mark(sample: ShownSample) -> str:
    kept = {0: "", 1: "*"}.get(sample.kept, f"* × {sample.kept}")
    return " ".join(word for word in (kept, sample.role) if word)
