"""Prompts and their completions as HTML: two lists that can be searched, sorted and filtered."""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from typing import Final

from exptilt.reports.shown import ShownPrompt, ShownSample
from exptilt.tilting import verdict
from exptilt.wording import counted

MOST_BYTES: Final = 4_000_000  # of all prompts together
LONGEST: Final = 8_000  # characters of one text
VERDICTS: Final = (verdict.SOUND, verdict.STRAINED, verdict.DISGUISED)
WORST: Final = "Furthest from sound"


def lists(by_lot: Sequence[ShownPrompt], worst: Sequence[ShownPrompt], values: Sequence[str]) -> str:
    """Both lists under their controls; empty where there is no prompt to show."""
    if not by_lot:
        return ""
    room = MOST_BYTES // (len(by_lot) + len(worst))
    listed = [("By lot", "p", by_lot), *([(WORST, "w", worst)] if worst else [])]
    made = "\n".join(_list(title, mark, prompts, room) for title, mark, prompts in listed)
    return (
        f'<section id="prompts">\n<h2>Prompts and completions</h2>\n{_controls(values)}\n{made}\n</section>'
    )


def _controls(values: Sequence[str]) -> str:
    measures = [("ess", "ESS"), ("needed", "samples needed"), *((f"v{i}", v) for i, v in enumerate(values))]
    options = "".join(f'<option value="{key}">{escape(name)}</option>' for key, name in measures)
    words = "".join(f"<option>{word}</option>" for word in VERDICTS)
    tilted = (
        f'<label>number <select id="measure">{options}</select></label>\n'
        '<label>from <input id="from" type="number" step="any"></label>\n'
        '<label>to <input id="to" type="number" step="any"></label>\n'
        '<label>order <select id="order"><option value="">as listed</option>'
        '<option value="1">smallest first</option><option value="-1">largest first</option>'
        "</select></label>\n"
        f'<label>verdict <select id="word"><option value="">any</option>{words}</select></label>\n'
    )
    return (
        '<form id="controls" role="search">\n<label>search <input id="search" type="search"></label>\n'
        f'{tilted if values else ""}<output id="found" aria-live="polite"></output>\n</form>'
    )


def _list(title: str, mark: str, prompts: Sequence[ShownPrompt], room: int) -> str:
    shown = "\n".join(map(partial(_prompt, mark=mark, room=room), prompts))
    return f'<h3>{title}</h3>\n<div class="list">\n{shown}\n</div>'


def _prompt(prompt: ShownPrompt, mark: str, room: int) -> str:
    data = {"ess": prompt.ess, "needed": prompt.needed}
    data |= {f"v{i}": level for i, level in enumerate(prompt.levels.values())}
    said = "".join(f' data-{key}="{number:.6g}"' for key, number in data.items() if number is not None)
    turns = "\n".join(_turn(role, text) for role, text in prompt.turns)
    reference = _turn("reference answer", prompt.reference) if prompt.reference else ""
    word = escape(prompt.verdict)
    return (
        f'<details class="prompt" id="{mark}{prompt.index}" data-word="{word}"{said} open>\n'
        f"<summary>{_heading(prompt)}</summary>\n{turns}\n{reference}{_samples(prompt, room)}\n</details>"
    )


def _heading(prompt: ShownPrompt) -> str:
    parts = [f"prompt {prompt.index}", counted(prompt.count, "sample")]
    if prompt.ess is not None and prompt.needed is not None:
        parts += [f"ESS {prompt.ess:.1f}", f"{prompt.needed:,.0f} needed"]
    word = prompt.verdict
    badge = f' <span class="badge {word.split(maxsplit=1)[0]}">{escape(word)}</span>' if word else ""
    return escape(" · ".join(parts)) + badge


def _turn(role: str, text: str) -> str:
    who = f'<span class="role">{escape(role)}</span>' if role else ""
    return f'<div class="turn" dir="auto">{who}{_text(text)}</div>'


def _text(text: str) -> str:
    more = len(text) - LONGEST
    cut = f" <em>… and {counted(more, 'character')} more</em>" if more > 0 else ""
    return escape(text[:LONGEST]) + cut


def _samples(prompt: ShownPrompt, room: int) -> str:
    """The table of completions, by weight; those beyond `room` bytes are counted, but for the kept ones."""
    names = list(prompt.samples[0].numbers)
    head = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in ["kept", "weight", *names, "completion"]
    )
    rows = list(_rows(prompt.samples, room))
    left = prompt.count - len(rows)
    rows = [*map(_row, prompt.refined), *rows]
    more = f"<p>and {counted(left, 'completion')} of smaller weight</p>" if left else ""
    body = "\n".join(rows)
    return f'<div class="wide" tabindex="0"><table>\n<tr>{head}</tr>\n{body}\n</table></div>{more}'


def _rows(samples: Sequence[ShownSample], room: int) -> Iterator[str]:
    for sample in samples:
        row = _row(sample)
        room -= len(row.encode())
        if room > 0 or sample.kept or sample.role:
            yield row


def _row(sample: ShownSample) -> str:
    kept = {0: "", 1: "✓"}.get(sample.kept, f"✓ × {sample.kept}")
    role = f' <span class="badge {sample.role}">{sample.role}</span>' if sample.role else ""
    weight = "" if sample.weight is None else f"{sample.weight:.3f}"
    numbers = [weight, *(_number(n) for n in sample.numbers.values())]
    cells = "".join(f"<td>{number}</td>" for number in [kept + role, *numbers])
    mark = ' class="kept"' if sample.kept else ""
    return f'<tr{mark}>{cells}<td class="text" dir="auto">{_text(sample.completion)}</td></tr>'


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
