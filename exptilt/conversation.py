"""A prompt: a text, or a conversation, which is turns of a role and a content each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

ROLES: Final = ("system", "user", "assistant")
SPEAKERS: Final = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": "\n\nSystem: "}


class Message(NamedTuple):
    """A turn of a conversation; `role` is one of ROLES."""

    role: str
    content: str


Conversation = tuple[Message, ...]
Prompt = str | Conversation


@dataclass(frozen=True, slots=True)
class Template:
    """How a run fills a chat template in.

    Attributes:
        text: the template, empty for the tokenizer's own.
        options: names and values that the template is given, as enable_thinking=False.
    """

    text: str = ""
    options: tuple[tuple[str, Any], ...] = ()


PLAIN: Final = Template()


def turns(prompt: Prompt) -> Conversation:
    """The turns of a prompt; a text is one user's turn."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def as_dicts(conversation: Conversation) -> list[dict[str, str]]:
    """The turns as chat templates, servers and tables take them: one dict of role and content each."""
    return [message._asdict() for message in conversation]


def of_dicts(messages: Sequence[Mapping[str, str]]) -> Conversation:
    """The conversation of such dicts."""
    return tuple(Message(message["role"], message["content"]) for message in messages)


def text_of(prompt: Prompt) -> str:
    """A prompt as people read it, and models without a chat template.

    A conversation reads like a transcript of Human and Assistant; what opens its first turn is left out, so
    that one user's turn is its text.
    """
    if isinstance(prompt, str):
        return prompt
    text = "".join(SPEAKERS[role] + content for role, content in prompt)
    return text.removeprefix(SPEAKERS[prompt[0].role])


def joined(prompt: Prompt, completion: str) -> str:
    """The text of a prompt and its completion, which is a conversation's next turn."""
    if isinstance(prompt, str):
        return prompt + completion
    return f"{text_of(prompt)}{SPEAKERS['assistant']}{completion}"


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row of the table of prompts."""
    return of_dicts(row["messages"]) if row["messages"] is not None else str(row["prompt"])
