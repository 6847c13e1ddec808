"""Chat templates: a prompt as one user's turn, in the text that the model was taught to answer to."""

from collections.abc import Sequence
from typing import Any

from exptilt.errors import ModelError
from exptilt.models.reference import ModelRef
from exptilt.storage.keys import content_key


def digest(ref: ModelRef) -> str:
    """What stands for the chat template of a checkpoint in a key: its text and what it makes of one prompt
    (which holds the date where the template writes it), as a digest.

    Raises ModelError where the tokenizer has no template.
    """
    from exptilt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(ref)
    if not tokenizer.chat_template:
        raise no_template(ref)
    example = rendered(tokenizer, ["prompt"])
    return content_key([tokenizer.get_chat_template(), example])


def no_template(ref: ModelRef) -> ModelError:
    """The error for a base model that has no chat template."""
    return ModelError(f"--chat: the tokenizer of {ref.name!r} has no chat template; run without --chat")


def rendered(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Each prompt as one user's turn, with what opens the answer; special tokens are in the text.

    Raises ModelError where the template cannot be filled in so.
    """
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    try:
        texts: list[str] = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"--chat: the chat template of {tokenizer.name_or_path!r} fails: {reason}"
        ) from error
    return texts
