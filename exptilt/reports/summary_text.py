"""A run's summary as people read it: lines, the values' table, Markdown."""

from collections.abc import Sequence
from typing import Final

from exptilt.reports.summary import Quality, SpreadChange, Summary, ValueChange
from exptilt.tilting import verdict
from exptilt.wording import counted


def facts(summary: Summary) -> list[tuple[str, str]]:
    """The summary's lines but for the values' table: what, and how much."""
    rows = [("prompts", f"{summary.prompts:,}"), ("samples", _sizes(summary))]
    rows.append(("kept", _kept(summary)))
    if summary.pairs is not None:
        rows.append(("pairs", _pairs(summary.pairs, summary.prompts)))
    if summary.quality:
        rows += _quality(summary.quality, summary.n, is_refined=summary.refinement is not None)
    if summary.refinement:
        rows += [("the draws", summary.tilt_sentence), *summary.refinement.facts]
    rows += [("spread", _spread(spread)) for spread in summary.spreads]
    rows += [("generated", _generated(summary)), ("reused", _reused(summary))]
    rows += [("left out", str(prompt)) for prompt in summary.missing]
    rows += [("left out", f"{counted(count, 'prompt')}: {why}") for why, count in summary.skipped.items()]
    if summary.truncated:
        rows.append(("too long", f"{counted(summary.truncated, 'prompt')} cut"))
    rows += [("too long", f"{counted(n, 'text')} cut for {value}") for value, n in summary.cut.items() if n]
    if summary.retries:
        rows.append(("storage", counted(summary.retries, "retry", "retries")))
    return rows


def places(summary: Summary) -> list[tuple[str, str]]:
    """The lines that say where things lie."""
    pushed = [("pushed to", summary.pushed)] if summary.pushed else []
    page = f"{summary.folder}/index.html"
    return [("records", summary.json), ("data set", summary.folder), ("page", page), *pushed]


def _kept(summary: Summary) -> str:
    if summary.quality is None or summary.refinement or summary.kept <= summary.prompts:
        return f"{summary.kept:,}"
    return f"{summary.kept:,}; {summary.quality.unique:.1f} different ones per prompt"


def _pairs(pairs: int, prompts: int) -> str:
    left = prompts - pairs
    return (
        f"{pairs:,}; {counted(left, 'prompt')} without a margin that is large enough"
        if left
        else f"{pairs:,}"
    )


def _sizes(summary: Summary) -> str:
    drawn = f"{summary.samples:,}"
    topped = summary.samples - summary.prompts * summary.n
    return f"{drawn}, {topped:,} of them to raise the ESS" if topped > 0 else drawn


def _quality(q: Quality, n: int, is_refined: bool) -> list[tuple[str, str]]:
    of_draws = "; both of the draws before the moves" if is_refined else ""
    rows = [
        ("ESS", f"median {q.ess:.1f} of {n}; under 2 at {q.low_share:.1%} of the prompts"),
        ("KL", f"{q.kl} nats per prompt; log Z {q.log_z}{of_draws}"),
        ("weights", f"largest {q.max_weight:.3f} (median); rejection would accept {q.acceptance:.1%}"),
    ]
    return rows if q.khat_share is None else [*rows, ("tails", _tails(q))]


def _tails(q: Quality) -> str:
    said = f"Pareto k-hat over 0.7 at {q.khat_share:.1%} of the prompts"
    if q.n_by_tail is None or q.n_by_tail > verdict.MOST_SAMPLES:
        return said
    return f"{said}; they ask for {counted(round(q.n_by_tail), 'sample')} at nine prompts in ten"


def _spread(change: SpreadChange) -> str:
    members = counted(change.members, "member")
    return f"{change.value}: sd across {members} {change.before} before the tilt, {change.after} after"


def _generated(summary: Summary) -> str:
    if not summary.tokens_per_second:
        return "nothing: every sample was in the pool"
    return f"{counted(summary.tokens, 'token')} at {summary.tokens_per_second:,.0f} tokens/s"


def _reused(summary: Summary) -> str:
    parts = [f"{what} {count}/{summary.shards}" for what, count in summary.reused.items()]
    return "shards of " + ", ".join(parts)


def levels(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """The values' table: its headings, and a row for each; of completions that were moved a column more."""
    added = ["after the moves"] if summary.refinement else []
    return [*HEADINGS[:4], *added, *HEADINGS[4:]], [_change_row(change) for change in summary.values]


def _change_row(change: ValueChange) -> list[str]:
    """One value's row: name, λ, before, after, after the moves, difference, limit."""
    kept = [change.after] if change.refined is None else [change.after, change.refined]
    difference = f"{kept[-1].mean - change.before.mean:+.4f}"
    shown = map(str, (change.before, *kept))
    return [change.value, f"{change.lam:g}", *shown, difference, str(change.limit)]


HEADINGS: Final = ["value", "λ", "before the tilt", "after the tilt", "difference", "as n grows"]


def markdown(summary: Summary) -> str:
    """The summary as Markdown, for the UI."""
    lines = [*markdown_verdict(summary), *markdown_facts(summary)]
    return "\n".join([*lines, *(f"- {name}: {said}" for name, said in places(summary))])


def markdown_verdict(summary: Summary) -> list[str]:
    """The verdict in Markdown, no line without a tilt."""
    verdict = summary.warning or summary.sentence
    return [f"**{verdict}**", ""] if verdict else []


def markdown_facts(summary: Summary) -> list[str]:
    """The values' table and the summary's lines in Markdown."""
    lines = []
    if summary.values:
        lines += [markdown_table(*levels(summary))]
        lines += ["", "Means over prompts ± standard error; the last column by the jackknife.", ""]
    return [*lines, *(f"- {name}: {said}" for name, said in facts(summary))]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(_md_row(cells) for cells in [headings, ["---"] * len(headings), *rows])


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
