"""What a run leaves in the UI: its summary, tables of levels and of what is missing, a link to its page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from exptilt.errors import ShardsFailed
from exptilt.reports import frontier, palette_answer, scores
from exptilt.reports.frontier import Frontier
from exptilt.reports.palette_answer import Found
from exptilt.reports.scores import Scores
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import levels, markdown, markdown_table
from exptilt.stages.failures import MissingPrompt
from exptilt.wording import counted


def show_summary(summary: Summary) -> None:
    """The outcome of a run that makes a data set."""
    size = f"{counted(summary.kept, 'completion')} of {counted(summary.prompts, 'prompt')}"
    said = summary.sentence or size
    create_markdown_artifact(f"# {summary.title}\n\n{markdown(summary)}", "exptilt-summary", said)
    if summary.values:
        _table("exptilt-levels", f"Levels before and after the tilt: {said}", *levels(summary))
    _left_out(summary.missing, summary.skipped)
    _page(f"{summary.folder}/index.html", "Page of the data set: samples, pictures, certificate")


def show_sweep(found: Frontier, name: str) -> None:
    """The outcome of a sweep."""
    said = f"What {len(found.points)} λ bring and cost, on {counted(found.prompts, 'prompt')}"
    headings, rows = frontier.headings(found), frontier.rows(found)
    create_markdown_artifact(f"# {name}\n\n{markdown_table(headings, rows)}", "exptilt-sweep", said)
    _table("exptilt-levels", said, headings, rows)
    _left_out(found.missing, {})
    _page(f"{found.folder}/index.html", "Page of the sweep: levels against KL, every λ")


def show_palette(found: Found, name: str) -> None:
    """The outcome of a palette."""
    said, *_ = sentences = palette_answer.sentences(found)
    rows = [palette_answer.row(level) for level in found.levels]
    text = "\n\n".join([f"# {name}", *sentences, markdown_table(palette_answer.HEADINGS, rows)])
    create_markdown_artifact(text, "exptilt-palette", said)
    _table("exptilt-levels", said, palette_answer.HEADINGS, rows)
    _left_out(found.missing, {})


def show_scores(found: Scores) -> None:
    """The outcome of scoring a file."""
    headings, rows = scores.table(found)
    said = f"Values of {counted(found.records, 'record')}, saved to {found.file}"
    _table("exptilt-levels", said, headings, rows)
    _left_out((), found.skipped)


def show_failures(error: ShardsFailed) -> None:
    """The shards of a failed run, by cause."""
    rows = [(", ".join(shards), why) for why, shards in error.shards.items()]
    said = "Shards that failed; the others are saved, and a re-run does only what is missing"
    _table("exptilt-failed", said, ["shards", "why"], rows)


def _left_out(missing: Iterable[MissingPrompt], skipped: dict[str, int]) -> None:
    rows = [[str(prompt.prompt_index), prompt.prompt, prompt.why] for prompt in missing]
    rows += [[counted(count, "prompt"), "", why] for why, count in skipped.items()]
    if rows:
        _table("exptilt-left-out", "Prompts that are left out, and why", ["prompt", "text", "why"], rows)


def _table(key: str, description: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = [dict(zip(headings, cells, strict=True)) for cells in rows]
    create_table_artifact(table, key, description)


def _page(path: str, description: str) -> None:
    """A link; a browser opens that to a local file where it is copied into its address bar."""
    link = path if "://" in path else Path(path).absolute().as_uri()
    create_link_artifact(link, link_text=path, key="exptilt-page", description=description)
