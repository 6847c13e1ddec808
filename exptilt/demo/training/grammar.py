"""The written grammar of the demo's short reviews, with the exact labels of its two hidden bits."""

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from random import Random
from typing import Final, NamedTuple

from exptilt.demo.training.vocabulary import KINDS, SHARED

HUMOR_RATE: Final = 0.3
POSITIVE_RATE: Final = 0.6
FORMS: Final = (
    "{opening}. {event}. {verdict}.",
    "{opening}. {verdict}. {event}.",
    "{opening}, and {event}. {verdict}.",
)

Rules = Mapping[str, tuple[str, ...]]
_SYMBOL: Final = re.compile(r"\{(\w+)\}")


class Review(NamedTuple):
    """One review: its text is prompt + completion, and the completion opens with a space."""

    prompt: str
    completion: str
    absurd: bool
    favourable: bool


class Labels(NamedTuple):
    """What a text's own words say of the two bits; None where they say nothing or both things."""

    absurd: bool | None
    favourable: bool | None


def _parse(block: str) -> dict[str, tuple[str, ...]]:
    lines = block.strip().replace("\n  |", " |").splitlines()
    pairs = (line.split(": ", 1) for line in lines)
    return {key: tuple(part.strip() for part in text.split("|")) for key, text in pairs}


@cache
def _rules(kind: str) -> Rules:
    return ChainMap(_parse(KINDS[kind]), _parse(SHARED))


def _expand(text: str, rules: Rules, rng: Random) -> str:
    return _SYMBOL.sub(lambda m: _expand(rng.choice(rules[m[1]]), rules, rng), text)


def _expansions(text: str, rules: Rules) -> Iterator[str]:
    symbol = _SYMBOL.search(text)
    if symbol is None:
        yield text
        return
    for choice in rules[symbol[1]]:
        yield from _expansions(text[: symbol.start()] + choice + text[symbol.end() :], rules)


def _pattern(text: str, rules: Rules) -> str:
    """A regular expression for all that `text` can be rewritten to."""
    parts = re.split(r"\{(\w+)\}", text)
    return "".join(
        _choice(_pattern(choice, rules) for choice in rules[part]) if i % 2 else re.escape(part)
        for i, part in enumerate(parts)
    )


def _choice(patterns: Iterable[str]) -> str:
    return "(?:" + "|".join(patterns) + ")"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def _subjects() -> dict[str, tuple[str, str]]:
    """Every prompt with its kind and the symbol of the opening that fits it."""
    found = {}
    for kind in KINDS:
        rules = _rules(kind)
        for subject in _expansions("{subject}", rules):
            found[_sentence(subject)] = (kind, "subject_opening")
            found[f"{rules['visit'][0]} {subject}"] = (kind, "visit_opening")
    return found


@cache
def prompts() -> tuple[str, ...]:
    """Every prompt, in a fixed order that mixes the kinds."""
    ordered = sorted(_subjects())
    Random(0).shuffle(ordered)
    return tuple(ordered)


def kind_of(prompt: str) -> str:
    """The kind of subject of one of `prompts()`."""
    return _subjects()[prompt][0]


def review(rng: Random) -> Review:
    """Draw one review: a prompt, the two bits independently of it, and the words they ask for."""
    prompt = rng.choice(prompts())
    absurd, favourable = rng.random() < HUMOR_RATE, rng.random() < POSITIVE_RATE
    kind, opening = _subjects()[prompt]
    rules = _rules(kind)
    event = _expand("{absurd}" if absurd else "{plain}", rules, rng)
    verdict = _expand("{favourable}" if favourable else "{unfavourable}", rules, rng)
    form = rng.choice(FORMS)
    text = form.format(
        opening=_expand(f"{{{opening}}}", rules, rng),
        event=event if ", and {event}" in form else _sentence(event),
        verdict=_sentence(verdict),
    )
    return Review(prompt, " " + text, absurd, favourable)


@cache
def _whole(prompt: str) -> re.Pattern[str]:
    kind, opening = _subjects()[prompt]
    rules = {
        **_rules(kind),
        "opening": (f"{{{opening}}}",),
        "event": ("{absurd}", "{plain}"),
        "verdict": ("{favourable}", "{unfavourable}"),
    }
    return re.compile(_choice(" " + _pattern(form, rules) for form in FORMS), re.IGNORECASE)


def is_review(prompt: str, completion: str) -> bool:
    """Whether the grammar can go on from `prompt` with `completion`, word for word."""
    return prompt in _subjects() and _whole(prompt).fullmatch(completion) is not None


@cache
def _sign(*texts: str) -> re.Pattern[str]:
    """What matches one of `texts` as any kind of subject rewrites them."""
    ways = dict.fromkeys(_pattern(text, _rules(kind)) for text in texts for kind in KINDS)
    return re.compile(rf"\b{_choice(ways)}\b")


def _bit(text: str, yes: re.Pattern[str], no: re.Pattern[str]) -> bool | None:
    found, denied = bool(yes.search(text)), bool(no.search(text))
    return found if found != denied else None


def labels(text: str) -> Labels:
    """Read both bits off the words that decide them: who acts, and how the opinion is put.

    `text` may be a whole review, its completion alone, or the start of either.
    """
    return Labels(
        _bit(text, _sign("{creature}"), _sign("{person}")),
        _bit(
            text,
            _sign("was {good}", "was {truly} {good}", "I {loved} the"),
            _sign("was {bad}", "was {truly} {bad}", "I {hated} the"),
        ),
    )
