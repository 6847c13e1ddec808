"""Pages to look at in a browser: one file each, without a network."""

import posixpath
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from exptilt.reports import palette_answer
from exptilt.reports.frontier import Frontier, headings, rows
from exptilt.reports.palette_answer import Found
from exptilt.reports.summary import Summary
from exptilt.reports.summary_text import facts, levels, places
from exptilt.tilting import convergence, verdict
from exptilt.wording import counted

STRICT: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(title: str, *parts: str, script: str = "", head: str = "") -> bytes:
    """A page of HTML elements, of which empty ones are left out.

    Args:
        title: of the page, and its heading.
        *parts: the elements, escaped.
        script: what runs once they are there.
        head: more elements of its head.
    """
    above = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{STRICT}">\n'
    )
    body = "\n".join(part for part in parts if part)
    scripted = f"\n<script>\n{script}</script>" if script else ""
    return (
        f"{above}{head}<title>{escape(title)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>{scripted}\n</body>\n</html>\n"
    ).encode()


def _asset(name: str) -> str:
    return files("exptilt.reports").joinpath(name).read_text(encoding="utf-8")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, which scrolls where it is wider than the page."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in headings)
    body = "\n".join(map(_row, rows))
    made = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide" tabindex="0">{made}</div>'


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells) + "</tr>"


def certificate(word: str, sentence: str) -> str:
    """The verdict on a tilt, in the colour of its word."""
    return f'<p class="verdict {escape(word.split(maxsplit=1)[0])}">{escape(sentence)}</p>'


def listed(facts: Sequence[tuple[str, str]]) -> str:
    """Facts by their names."""
    return (
        "<dl>"
        + "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in facts)
        + "</dl>"
    )


def data_set(summary: Summary, prompts: str, pictures: Sequence[str], tables: Sequence[str]) -> bytes:
    """The page of a data set.

    Args:
        summary: the run's; its certificate stands first where it tilts.
        prompts: what samples_html.lists makes of some of its prompts.
        pictures: SVG elements.
        tables: the names of its tables.
    """
    certified = [
        certificate(summary.word, summary.sentence),
        table(*levels(summary)),
        f"<p>{escape(EXPLAINED)}</p>",
        f"<p>{escape(convergence.EXPLAINED)}</p>" if summary.refinement else "",
    ]
    return page(
        summary.title.rpartition("/")[2],
        *(certified if summary.quality else []),
        *pictures,
        listed([*facts(summary), *places(summary)]),
        _links(["manifest.json", "README.md", *(f"{table}/" for table in tables)]),
        prompts,
        script=_asset("page.js") if prompts else "",
    )


def _links(targets: Sequence[str], names: Sequence[str] | None = None) -> str:
    """Links to files beside the page."""
    made = [
        f'<a href="{quote(to)}">{escape(name)}</a>'
        for to, name in zip(targets, names or targets, strict=True)
    ]
    return f"<p>Files: {', '.join(made)}</p>"


EXPLAINED: Final = (
    "Means over prompts ± standard error: of all samples, of the completions kept, and of what more samples "
    "would bring, by the jackknife over halves of the samples."
)


def frontier(found: Frontier, picture: str) -> bytes:
    """A sweep: the picture, and one row per λ."""
    return page(
        f"sweep of {', '.join(found.values)}: {len(found.points)} λ",
        f"<p>{counted(found.prompts, 'prompt')} × {counted(found.n, 'sample')}. A dot is a λ, numbered as in "
        "the table; bars are "
        "standard errors over prompts; the dashed line and the cross are p0.</p>",
        picture,
        table(headings(found), rows(found)),
        f"<p>{escape(verdict.EXPLAINED)}</p>",
        listed(found.missing_rows),
        _links(["manifest.json", "frontier.png"]),
        _saved(found),
    )


def palette(found: Found, title: str, picture: str) -> bytes:
    """A palette's answer: whether there is a λ, the levels that it brings, and the proof."""
    said, *more = palette_answer.sentences(found)
    proof = [fact for fact in palette_answer.facts(found) if fact[0] not in ("saved", "page")]
    return page(
        f"palette of {title}",
        certificate("sound" if found.feasible else "best-of-n", said),
        *(f"<p>{escape(sentence)}</p>" for sentence in more),
        table(palette_answer.HEADINGS, [palette_answer.row(level) for level in found.levels]),
        f"<p>{escape(palette_answer.EXPLAINED)}</p>",
        picture,
        listed(proof),
        _links([posixpath.basename(found.json)]),
    )


def _saved(found: Frontier) -> str:
    """Links to the pages of the data sets that a sweep saved."""
    pages = [(n, posixpath.relpath(f"{there}/index.html", found.folder)) for n, there in found.data_sets]
    made = [f'<li><a href="{quote(page)}">λ number {number}</a></li>' for number, page in pages]
    return f"<h2>Data sets</h2>\n<ul>{''.join(made)}</ul>" if made else ""
