"""The prompt and the completion of one record, found by the columns that it has and by their shapes."""

from collections.abc import Sequence
from typing import Any, Final

from exptilt import conversation
from exptilt.conversation import Conversation, Message, Prompt
from exptilt.data import conversations
from exptilt.data.conversations import Unusable, checked_text, is_listed, naming
from exptilt.data.json_records import Record
from exptilt.data.parsing import is_text

COMPLETIONS: Final = ("completion", "response")
MESSAGES: Final = ("messages", "conversations")
SIDES: Final = ("chosen", "rejected")
TIDIED: Final = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
Sample = tuple[Prompt, str]


def is_pair(record: Record) -> bool:
    """Whether a record has both columns of a pair, and something in them."""
    return all(side in record for side in SIDES) and any(record[side] is not None for side in SIDES)


def of_record(record: Record, prompt_column: str, generated_column: str) -> Sample:
    """Prompt and completion of a record.

    A record's text is prompt + completion, in the generated column; where it has none, the completion is the
    last turn of messages, or stands in a column of its own (COMPLETIONS), as text or as the assistant's turn.
    Where the text begins with the prompt only as older decoders tidied it (no space before a full stop), the
    prompt is taken so.

    Raises:
        Unusable: it has no such texts; says which column is at fault.
    """
    messages = next((record[name] for name in MESSAGES if record.get(name) is not None), None)
    column = next((name for name in COMPLETIONS if record.get(name) is not None), None)
    if record.get(generated_column) is not None or (messages is None and column is None):
        return _of_text(record, prompt_column, generated_column)
    if messages is None:
        assert column
        return _of_column(record, prompt_column, column)
    found = conversations.asked(messages)
    if found.reference is None:
        raise Unusable("without an answer", "has messages that do not end with an assistant's turn")
    return found.prompt, found.reference


def _of_column(record: Record, prompt_column: str, column: str) -> Sample:
    """Prompt and completion, which has a column of its own."""
    if is_listed(record[column]):
        with naming(column):
            said = conversations.turns_of(record[column])
        return of_turns(said, record.get(prompt_column), prompt_column, column)
    with naming(prompt_column):
        prompt = conversations.asked(record.get(prompt_column)).prompt
    with naming(column):
        return prompt, checked_text(record[column])


def of_turns(
    said: Sequence[Message], prompt: Any, prompt_column: str, column: str
) -> tuple[Conversation, str]:
    """Prompt and completion of turns that end with the assistant's.

    Args:
        said: the assistant's turn alone, or behind all turns of the prompt.
        prompt: what stands in the prompt's column, None without one; beside all turns of a conversation a
            text is what people read, and messages must be the same turns.
        prompt_column: its name.
        column: that of the turns.

    Raises:
        Unusable: they are neither; says which column is at fault.
    """
    with naming(column):
        _check_answered(said)
    before, answer = tuple(said[:-1]), said[-1].content
    if _is_whole(said, prompt):
        with naming(column, "whose prompt"):
            conversations.split(said)
        return before, answer
    asked = _asked(prompt, prompt_column)
    if before not in ((), asked):
        raise Unusable(
            "of other turns",
            f"has in {column!r} neither one assistant's turn nor all turns of {prompt_column!r} before it",
        )
    return asked, answer


def _check_answered(said: Sequence[Message]) -> None:
    if not said:
        raise Unusable("empty")
    if said[-1].role != "assistant":
        raise Unusable("without an answer", f"ends with the {said[-1].role}'s turn, not the assistant's")


def _is_whole(said: Sequence[Message], prompt: Any) -> bool:
    """Whether the turns hold their prompt, which stands nowhere else as messages."""
    if len(said) == 1 or is_listed(prompt):
        return False
    return prompt is None or said[0].role != "assistant"


def _asked(prompt: Any, column: str) -> Conversation:
    """The turns of a prompt that the assistant's turn is to follow."""
    with naming(column):
        asked = conversations.asked(prompt, in_chat=True)
        if asked.reference is not None:
            raise Unusable("with an answer", "ends with the assistant's turn, beside another one")
    return conversation.turns(asked.prompt)


def _of_text(record: Record, prompt_column: str, generated_column: str) -> Sample:
    """Prompt and completion of a record whose text holds both."""
    prompt, text = record.get(prompt_column), record.get(generated_column)
    if isinstance(prompt, str) and isinstance(text, str) and not text.startswith(prompt):
        prompt = _tidied(prompt)
    if is_text(prompt) and is_text(text) and text.startswith(prompt):
        return prompt, text[len(prompt) :]
    raise _no_text(record, prompt_column, generated_column)


def _no_text(record: Record, prompt_column: str, generated_column: str) -> Unusable:
    """Why a record has no text that holds both."""
    for column in (prompt_column, generated_column):
        if isinstance(record.get(column), str) and not is_text(record[column]):
            return Unusable("half a character", f"holds half a character (a lone surrogate) in {column!r}")
    if is_pair(record):
        return Unusable("a pair", "is a pair, 'chosen' and 'rejected': score a file of pairs alone")
    return Unusable(
        "no text",
        f"needs {prompt_column!r} and {generated_column!r}, a text that begins with it; or beside the prompt "
        "'completion' or 'response', or 'chosen' and 'rejected'; or 'messages' that end with an assistant's "
        "turn",
    )


def _tidied(text: str) -> str:
    """`text` as clean_up_tokenization_spaces leaves it, which decoding once did by default."""
    for spaced in TIDIED:
        text = text.replace(spaced, spaced.strip())
    return text
