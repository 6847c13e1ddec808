"""Pages to look at in a browser: one file each, without a network."""

from collections.abc import Sequence
from html import escape
from typing import Final

from exptilt.reports.frontier import Frontier, headings, rows
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import HEADINGS, change_row, facts
from exptilt.tilting import verdict
from exptilt.wording import counted

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.4rem; } .verdict { font-weight: 600; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
dt { float: left; width: 8rem; color: #666; }
.sound { color: #1b7f5c; } .strained { color: #c9820a; } .best-of-n { color: #b3261e; }
"""


def _page(title: str, *parts: str) -> bytes:
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    )
    body = "\n".join(parts)
    return (
        f"{head}<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    ).encode()


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def _verdict(word: str, sentence: str) -> str:
    return f'<p class="verdict {escape(word.split(maxsplit=1)[0])}">{escape(sentence)}</p>'


def _listed(facts: Sequence[tuple[str, str]]) -> str:
    return (
        "<dl>"
        + "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in facts)
        + "</dl>"
    )


def tilted(summary: Summary, picture: str) -> bytes:
    """The certificate of a tilted data set."""
    return _page(
        summary.title.rpartition("/")[2],
        _verdict(summary.verdict, summary.sentence),
        _table(HEADINGS, [change_row(change) for change in summary.values]),
        f"<p>{escape(EXPLAINED)}</p>",
        picture,
        _listed(facts(summary)),
    )


EXPLAINED: Final = (
    "Means over prompts ± standard error: of all samples, of the completions kept, and of what more samples "
    "would bring, by the jackknife over halves of the samples."
)


def frontier(found: Frontier, picture: str) -> bytes:
    """A sweep: the picture, and one row per λ."""
    return _page(
        f"sweep of {', '.join(found.values)}: {len(found.points)} λ",
        f"<p>{counted(found.prompts, 'prompt')} × {counted(found.n, 'sample')}. A dot is a λ, numbered as in "
        "the table; bars are "
        "standard errors over prompts; the dashed line and the cross are p0.</p>",
        picture,
        _table(headings(found), rows(found)),
        f"<p>{escape(verdict.EXPLAINED)}</p>",
        _listed(found.missing_rows),
    )
