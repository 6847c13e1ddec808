"""Preference pairs: a chosen and a rejected completion of one prompt, by the shapes of TRL and hh-rlhf.

Each side is a text behind the record's prompt; the assistant's turn behind it; or a whole conversation, as
messages or as a transcript, which holds the prompt. Texts of a file without a column of prompts hold it,
too: it is what both begin with.
"""

from collections.abc import Sequence
from itertools import takewhile, zip_longest
from typing import Any, TypeGuard

from exptilt.conversation import Conversation, Message
from exptilt.data import completions, conversations
from exptilt.data.completions import SIDES, Sample
from exptilt.data.conversations import OPENING, Unusable, checked_text, is_listed, naming
from exptilt.data.json_records import Record

Side = str | list[Message]


def of_record(record: Record, prompt_column: str, has_prompts: bool) -> list[Sample]:
    """The samples of a record, in the order of SIDES: their prompt is the same.

    Args:
        record: has both of SIDES.
        prompt_column: holds the prompt, if there is such a column.
        has_prompts: whether there is one in the file.

    Raises:
        Unusable: a side is missing or no answer, or the two do not share the prompt.
    """
    prompt = record.get(prompt_column)
    sides = _by_shape([_side(record, column) for column in SIDES], prompt)
    texts = [side for side in sides if isinstance(side, str)]
    if len(texts) == len(SIDES):
        return _of_texts(texts, record, prompt_column, has_prompts)
    if texts:
        raise Unusable("of two kinds", "has a conversation and a text as 'chosen' and 'rejected'")
    samples = [
        completions.of_turns(side, prompt, prompt_column, column)
        for side, column in zip(sides, SIDES, strict=True)
        if not isinstance(side, str)
    ]
    _check_shared(*(asked for asked, _ in samples))
    return [*samples]


def _side(record: Record, column: str) -> Side:
    with naming(column):
        value = record.get(column)
        return conversations.turns_of(value) if is_listed(value) else checked_text(value)


def _by_shape(sides: list[Side], prompt: Any) -> list[Side]:
    """The sides, transcripts as their turns; beside a prompt, one that alone looks like such is a text."""
    if prompt is None or all(map(_is_transcript, sides)):
        return [conversations.transcript(side) if _is_transcript(side) else side for side in sides]
    return sides


def _is_transcript(side: Side) -> TypeGuard[str]:
    return isinstance(side, str) and side.startswith(OPENING)


def _of_texts(texts: Sequence[str], record: Record, prompt_column: str, has_prompts: bool) -> list[Sample]:
    """The record's prompt, or where the file has none what both texts begin with, and the completions."""
    if has_prompts:
        with naming(prompt_column):
            prompt = conversations.asked(record.get(prompt_column)).prompt
        return [(prompt, text) for text in texts]
    if record.get(prompt_column) is not None:
        raise Unusable("with a prompt", f"has a {prompt_column!r}, and record 0 has none")
    shared = _shared_beginning(*texts)
    return [(shared, text[len(shared) :]) for text in texts]


def _shared_beginning(one: str, other: str) -> str:
    """What both texts begin with, up to the end of a word; the space behind it is the completion's."""
    common = takewhile(lambda signs: signs[0] == signs[1], zip(one, other, strict=False))
    last = max((place for place, (sign, _) in enumerate(common) if sign.isspace()), default=0)
    return one[:last].rstrip()


def _check_shared(chosen: Conversation, rejected: Conversation) -> None:
    both = zip_longest(chosen, rejected)
    turn = next((turn for turn, (one, other) in enumerate(both) if one != other), None)
    if turn is not None:
        raise Unusable(
            "of two prompts",
            f"has a 'chosen' and a 'rejected' that share no prompt (turn {turn} differs): leave it out",
        )
