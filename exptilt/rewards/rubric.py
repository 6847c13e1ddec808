"""A judge's rubric: the text that puts a sample to it, and the answers that count, each with its number.

The first line states the answers, as `answers: 1, 2, 3, 4, 5` or `answers: A=1, B=0`; the text behind it has
{prompt} and {completion} where these are put in.
"""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exptilt.errors import ConfigError

FIRST_LINE: Final = re.compile(r"answers:(?P<answers>[^\n]*)\n(?P<text>.*)", re.DOTALL)
FIELD: Final = re.compile(r"\{([A-Za-z_]\w*)\}")
FIELDS: Final = ("prompt", "completion")


@dataclass(frozen=True, slots=True)
class Rubric:
    """What a judge is asked, and the number of each answer."""

    text: str
    numbers: Mapping[str, float]

    def filled(self, prompt: str, completion: str) -> str:
        """The text with a sample put in; braces in the sample stay text."""
        sample = {"prompt": prompt, "completion": completion}
        return FIELD.sub(lambda field: sample[field[1]], self.text)

    @property
    def listed(self) -> str:
        """The answers in one line."""
        return ", ".join(self.numbers)


def read(path: str, name: str) -> str:
    """The text of a rubric's file.

    Args:
        path: where the file lies.
        name: the file as errors name it.

    Raises:
        ConfigError: it cannot be read, or is no rubric (see parse).
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 at byte {error.start}") from error
    parse(text, name)
    return text


def parse(text: str, name: str) -> Rubric:
    """The rubric that a file holds.

    Args:
        text: the file's.
        name: the file as errors name it.

    Raises:
        ConfigError: there is no line of answers, these are not two or more with a number each, or the text
            has not the two fields and no other.
    """
    found = FIRST_LINE.fullmatch(text)
    if not found:
        raise ConfigError(f"{name} must begin with a line as `answers: 1, 2, 3` or `answers: A=1, B=0`")
    rubric = Rubric(found["text"].strip(), _numbers(found["answers"], name))
    fields = FIELD.findall(rubric.text)
    unknown = [field for field in fields if field not in FIELDS]
    missing = [field for field in FIELDS if field not in fields]
    if unknown:
        raise ConfigError(f"{name} has a field {{{unknown[0]}}}: known are {{prompt}} and {{completion}}")
    if missing:
        raise ConfigError(f"{name} has no {{{missing[0]}}}: it must say where the {missing[0]} is put in")
    return rubric


def _numbers(line: str, name: str) -> dict[str, float]:
    """The number of each answer of a rubric's first line."""
    pairs = [_pair(part.strip(), name) for part in line.split(",")] if line.strip() else []
    if len(pairs) < 2:
        raise ConfigError(f"{name} must have two answers at least, not {line.strip() or 'none'}")
    _check_apart([answer for answer, _ in pairs], [number for _, number in pairs], name)
    return dict(pairs)


def _check_apart(answers: list[str], numbers: list[float], name: str) -> None:
    """Raise ConfigError where two answers have one name, one number, or a first token that may mean both."""
    for kind, items in (("answer", answers), ("number", numbers)):
        twice = next((item for place, item in enumerate(items) if item in items[:place]), None)
        if twice is not None:
            raise ConfigError(f"{name} has the {kind} {twice} twice")
    for short, long in itertools.permutations(answers, 2):
        if long.startswith(short):
            raise ConfigError(
                f"{name}: the answer {short} begins the answer {long}, and a first token may mean both; "
                "use letters, as A=1"
            )


def _pair(part: str, name: str) -> tuple[str, float]:
    """An answer and its number, from ANSWER=NUMBER or a number that stands for itself."""
    answer, sign, number = (side.strip() for side in part.rpartition("="))
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (sign and not answer):
        raise ConfigError(f"{name}: the answer {part!r} is no number; write it as ANSWER=NUMBER")
    if len((answer or number).split()) != 1:
        raise ConfigError(f"{name}: the answer {answer!r} must be one word")
    return answer or number, value
