"""Records as JSON text: read strictly, the column at fault named, given numbers; the rest stays as it is."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

Record = dict[str, Any]
SPACE: Final = " \t\n\r"  # all that JSON takes for space; other such characters are no JSON
OPENING: Final = re.compile(r"\{([ \t\n\r]*)")
COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
COMMA: Final = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
BREAK: Final = re.compile(r"[ \t]*[\n\r][ \t\n\r]*")  # within a string, JSON spells it \n or \r


def refuse_constant(constant: str) -> NoReturn:
    """Raise ValueError for NaN or Infinity, which Python's reader would take."""
    raise ValueError(f"{constant} is not JSON; write null or a number")


def _once(members: list[tuple[str, Any]]) -> Record:
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


STRICT: Final = json.JSONDecoder(parse_constant=refuse_constant, object_pairs_hook=_once)


def record_at(text: str, at: int, decoder: json.JSONDecoder = STRICT) -> tuple[tuple[Record, str], int]:
    """The record that begins at `at`, with its own text, and where it ends; ValueError if there is none."""
    try:
        found, end = decoder.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(f"{_column_at_fault(text, at, decoder)}{error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is no record but {type(found).__name__}")
    return (found, text[at:end]), end


def record_of(line: str, number: int, decoder: json.JSONDecoder = STRICT) -> tuple[Record, str]:
    """Record `number`, which is all of `line`, with its text; ValueError, which names it, if it is not."""
    try:
        found, end = record_at(line, 0, decoder)
    except json.JSONDecodeError as error:
        raise ValueError(f"record {number}: {error.msg} at character {error.pos}") from error
    except RecursionError:
        raise ValueError(f"record {number} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"record {number}: {error}") from error
    if end < len(line):
        raise ValueError(f"record {number}: more after it in its line")
    return found


def _column_at_fault(text: str, at: int, decoder: json.JSONDecoder) -> str:
    """`column 'x': ` of the first member that `decoder` does not read; nothing if each is read by itself."""
    for name, begin in _members(text, at):
        try:
            decoder.raw_decode(text, begin)
        except ValueError:
            return f"column {name!r}: "
    return ""


def _members(text: str, at: int) -> Iterator[tuple[str, int]]:
    """The names of an object's members, and where the value of each begins."""
    sign = OPENING.match(text, at)
    while sign and text[sign.end()] == '"':
        name, end = STRICT.raw_decode(text, sign.end())
        colon = COLON.match(text, end)
        assert colon, "members are looked for in an object"
        yield name, colon.end()
        sign = COMMA.match(text, STRICT.raw_decode(text, colon.end())[1])


def text_of(record: Record, number: int, indent: int | None = None) -> str:
    """The text of record `number`; ValueError, which names it and the column, at a NaN or an infinity."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        column = next(name for name, value in record.items() if not _is_json(value))
        raise ValueError(f"record {number}: column {column!r}: JSON has no NaN and no infinity") from None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def with_numbers(record: Record, text: str, numbers: Mapping[str, float | None]) -> str:
    """A record's text with numbers: in the place of a member of that name, else as its last members."""
    replaced = [name for name in numbers if name in record]
    for name, begin in reversed([*_members(text, 0)] if replaced else []):
        if name in replaced:
            _, end = STRICT.raw_decode(text, begin)
            text = text[:begin] + json.dumps(numbers[name]) + text[end:]
    return _extended(text, {name: number for name, number in numbers.items() if name not in replaced})


def _extended(text: str, numbers: Mapping[str, float | None]) -> str:
    """A record's text with new last members, spaced like its first."""
    opening = OPENING.match(text)
    space = (opening and opening[1]) or " "
    members = (
        f",{space}{json.dumps(name, ensure_ascii=False)}: {json.dumps(numbers[name])}" for name in numbers
    )
    body = text[:-1].rstrip(SPACE)
    return body + "".join(members) + text[len(body) :]


def in_one_line(text: str) -> str:
    """A record's text without line breaks, all of which stand between its parts."""
    return BREAK.sub(" ", text)
