"""What a classifier sees of a sample, by its form."""

from collections.abc import Sequence

from exptilt.conversation import Conversation, Message, Prompt, text_of, turns
from exptilt.data.texts import texts_of
from exptilt.rewards.base import CONVERSATION, Form

Text = tuple[str, ...]  # a text, or a pair
Seen = Text | Conversation


def seen(form: Form, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[Seen]:
    """What a classifier sees of each of S samples: a text, two segments, or a conversation.

    Args:
        form: how it sees them.
        prompts: of the samples, [S].
        completions: of the samples, [S].
    """
    before, after = CONVERSATION
    pairs = list(zip(prompts, completions, strict=True))
    match form:
        case "text":
            return [(text,) for text in texts_of(prompts, completions)]
        case "pair":
            return [(f"{before}{text_of(x)}{after}", y.strip()) for x, y in pairs]
        case "completion":
            return [(y,) for y in completions]
    return [(*turns(x), Message("assistant", y)) for x, y in pairs]
