"""Conversations by the shapes in which data sets hold them: messages, ShareGPT's turns, transcripts.

Messages are lists of {role, content}, as TRL and model servers take them; ShareGPT's turns are {from, value};
a transcript is a text of "\\n\\nHuman: …" and "\\n\\nAssistant: …", as in hh-rlhf. An assistant's turn at the
end is the reference answer and no part of the prompt.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from exptilt.conversation import ROLES, Conversation, Message, Prompt
from exptilt.data.parsing import is_text

OPENING: Final = "\n\nHuman:"
SPEAKER: Final = re.compile(r"\n\n(Human|Assistant):")
SPOKEN: Final = {
    "Human": "user",
    "Assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
}
TOOL_ROLES: Final = ("tool", "function", "function_call", "function_response", "observation", "ipython")
TOOL_KEYS: Final = ("tool_calls", "function_call", "tool_call_id")
MEDIA_KEYS: Final = ("image", "images", "video", "videos", "audio", "audios")


class Unusable(ValueError):
    """A row that is no prompt: `kind` counts it with its like, the text says what it is."""

    def __init__(self, kind: str, what: str = "") -> None:
        self.kind = kind
        super().__init__(what or f"is {kind}")


@contextmanager
def naming(column: str, link: str = "that") -> Iterator[None]:
    """Say of which column something is Unusable: has a 'prompt' that is missing."""
    try:
        yield
    except Unusable as error:
        raise Unusable(error.kind, f"has a {column!r} {link} {error}") from None


class Asked(NamedTuple):
    """A prompt, and the answer that its data set has for it, None without one."""

    prompt: Prompt
    reference: str | None = None


def asked(value: Any, system: str = "", in_chat: bool = False) -> Asked:
    """The prompt that a data set's `value` is, found by its shape.

    Args:
        value: a text, a transcript, or a list of turns.
        system: a system turn for every prompt; a text becomes a conversation by it.
        in_chat: read transcripts without a last answer as conversations, too; else these are texts.

    Returns:
        The prompt, and the reference answer.

    Raises:
        Unusable: it is none of these, or holds what is no text.
    """
    found = split(turns_of(value)) if is_listed(value) else _of_text(_checked(value), in_chat or bool(system))
    return Asked(_with_system(found.prompt, system), found.reference) if system else found


def is_listed(value: Any) -> bool:
    """Whether `value` is a list of turns, or one list for each of their keys."""
    if isinstance(value, Mapping):
        columns = list(value.values())
        return bool(columns) and all(isinstance(column, list) for column in columns)
    return isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value)


def _checked(value: Any) -> str:
    """`value`, if it is a text that can be a prompt."""
    text = checked_text(value)
    if not text.strip():
        raise Unusable("empty")
    return text


def checked_text(value: Any) -> str:
    """`value`, if it is a text; Unusable otherwise."""
    if value is None:
        raise Unusable("missing")
    if not isinstance(value, str):
        raise Unusable("not text", f"is not text but {type(value).__name__}")
    if not is_text(value):
        raise Unusable("half a character", "holds half a character (a lone surrogate)")
    return value


def _of_text(text: str, in_chat: bool) -> Asked:
    if not text.startswith(OPENING):
        return Asked(text)
    said = transcript(text)
    if said[-1] == ("assistant", ""):
        said.pop()
    elif said[-1].role == "assistant":
        return split(said)
    return split(said) if in_chat else Asked(text)


def transcript(text: str) -> list[Message]:
    """The turns of a text that begins with OPENING; the last one may be an answer of no characters."""
    _, *parts = SPEAKER.split(text)
    return [Message(SPOKEN[who], what.strip()) for who, what in zip(parts[::2], parts[1::2], strict=True)]


def split(said: Sequence[Message]) -> Asked:
    """The turns up to the last one of the assistant, which is the reference answer.

    Unusable where these do not end with a user's turn.
    """
    reference = said[-1].content if said and said[-1].role == "assistant" else None
    prompt = tuple(said if reference is None else said[:-1])
    if not prompt or not prompt[-1].content.strip():
        raise Unusable("empty")
    if prompt[-1].role != "user":
        raise Unusable("without a user's turn", f"ends with the {prompt[-1].role}'s turn, not the user's")
    return Asked(prompt, reference)


def _with_system(prompt: Prompt, system: str) -> Conversation:
    said = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    if said[0].role == "system":
        raise Unusable("with a system turn", "has a system turn of its own beside --system: leave one out")
    return (Message("system", system), *said)


def turns_of(value: Any) -> list[Message]:
    """The turns of a list, or of one list for each key; Unusable where one is no text of a known role."""
    if isinstance(value, Mapping):
        if len({len(column) for column in value.values()}) != 1:
            raise Unusable("not text", "has lists of different lengths for its turns' keys")
        value = [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    return [_message(turn, number) for number, turn in enumerate(value)]


def _message(turn: Mapping[str, Any], number: int) -> Message:
    role_key, content_key = (
        ("from", "value") if "from" in turn and "role" not in turn else ("role", "content")
    )
    role = turn.get(role_key)
    _refuse_tools_and_media(turn, role, number)
    role = SPOKEN.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise Unusable(
            "of other roles", f"has the role {role!r} in turn {number}; known are {', '.join(ROLES)}"
        )
    return Message(role, _content(turn.get(content_key), number))


def _refuse_tools_and_media(turn: Mapping[str, Any], role: Any, number: int) -> None:
    if role in TOOL_ROLES or any(turn.get(key) for key in TOOL_KEYS):
        raise Unusable("with tool calls", f"has a tool call in turn {number}: only texts are supported")
    if _kinds(turn.get("content")) - {"text"} or any(turn.get(key) for key in MEDIA_KEYS):
        raise Unusable("with images", f"has an image or the like in turn {number}: only texts are supported")


def _kinds(content: Any) -> set[Any]:
    """The types of a content's parts, where it has such."""
    parts = content if isinstance(content, list) else []
    return {str(part.get("type")) for part in parts if isinstance(part, Mapping)}


def _content(content: Any, number: int) -> str:
    """The text of a turn, which may stand in a list of one part."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], Mapping):
        content = content[0].get("text")
    if content is None:
        raise Unusable("missing", f"has no content in turn {number}")
    if not isinstance(content, str):
        raise Unusable("not text", f"is not text but {type(content).__name__} in turn {number}")
    if not is_text(content):
        raise Unusable("half a character", f"holds half a character (a lone surrogate) in turn {number}")
    return content
