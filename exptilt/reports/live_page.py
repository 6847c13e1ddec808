"""The page of the runs that are at work: how far each is, what it has found so far, and what is finished."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from exptilt.reports import live_text, web_page
from exptilt.reports.remaining import share_done
from exptilt.reports.standing import Standing
from exptilt.wording import counted

SECONDS: Final = 30
NOSCRIPT: Final = f'<noscript><meta http-equiv="refresh" content="{SECONDS}"></noscript>\n'
SCRIPT: Final = (
    "const again = document.getElementById('again');\n"
    f"setInterval(() => {{ if (again.checked) location.reload(); }}, {SECONDS * 1000});\n"
)
SHOWN: Final = 20  # shards that failed, prompts that are left out


class Finished(NamedTuple):
    """A data set that is whole: its name under the save directory, its verdict, and when it was made."""

    name: str
    verdict: str
    finished: str


def render(standings: Sequence[Standing], finished: Sequence[Finished], written: str) -> bytes:
    """The page.

    Args:
        standings: every configuration that has no outputs yet, the first to begin first.
        finished: the data sets, the latest first.
        written: when this is.
    """
    going = [each for each in standings if each.alive]
    still = [each for each in standings if not each.alive]
    return web_page.page(
        f"{counted(len(going), 'run')} at work",
        _written(written),
        *map(_going, going),
        _still(still),
        _finished(finished),
        script=SCRIPT,
        head=NOSCRIPT,
    )


def _written(written: str) -> str:
    box = '<label><input type="checkbox" id="again" checked> load it again every'
    return f"<p>Written {escape(written)}. {box} {SECONDS} s</label></p>"


def _going(standing: Standing) -> str:
    """A configuration that processes work at."""
    share = share_done(standing)
    said = f"{live_text.percent(standing)}, {live_text.time_left(standing)}"
    parts = [
        f"<h2>{escape(standing.facts.title)}</h2>",
        f"<p>{escape(standing.facts.opening)}</p>",
        f'<p><progress value="{share:.4f}" aria-label="share done"></progress> {escape(said)}</p>',
        web_page.certificate(*standing.verdict) if standing.verdict else "",
        web_page.listed(live_text.rows(standing)),
        _values(standing),
        _troubles(standing),
    ]
    return "<section>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def _values(standing: Standing) -> str:
    """The means of the values so far."""
    rows = live_text.value_rows(standing)
    lam = standing.facts.lam
    if not rows:
        return ""
    if not lam:
        return web_page.table(["value", "mean so far"], rows)
    headings = ["value", "λ", "before the tilt", "after the tilt"]
    return web_page.table(headings, [[name, f"{lam[name]:g}", *means] for name, *means in rows])


def _troubles(standing: Standing) -> str:
    """The shards that failed and the prompts that are left out, each with why."""
    failed = [f"shard {place + 1:03d}: {why}" for place, why in standing.failed.items()]
    missing = [f"left out: {prompt}" for prompt in standing.missing]
    skipped = [f"skipped: {counted(n, 'prompt')}: {why}" for why, n in standing.facts.skipped.items()]
    more = standing.total("n_missing") - len(missing)
    said = [*failed[:SHOWN], *missing[:SHOWN], *skipped]
    more += len(failed[SHOWN:]) + len(missing[SHOWN:])
    return _list([*map(escape, said), *([f"and {more:,} more"] if more else [])])


def _still(standings: Sequence[Standing]) -> str:
    """Configurations that nobody works at."""
    if not standings:
        return ""
    items = [
        f"{each.facts.title}: {each.done:,} of {counted(len(each.facts.prompts), 'shard')} done"
        + "".join(f"; shard {place + 1:03d} failed: {why}" for place, why in [*each.failed.items()][:1])
        for each in standings
    ]
    said = "The same command goes on where each of them stopped."
    return f"<h2>Stopped</h2>\n<p>{said}</p>\n{_list([*map(escape, items)])}"


def _finished(data_sets: Sequence[Finished]) -> str:
    items = [
        f'<a href="{quote(f"{each.name}/index.html")}">{escape(each.name)}</a>, {escape(each.finished)}'
        + (f": {escape(each.verdict)}" if each.verdict else "")
        for each in data_sets
    ]
    return f"<h2>Finished</h2>\n{_list(items)}" if items else ""


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "\n".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""
