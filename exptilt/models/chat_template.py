"""Chat templates: a conversation, or a text as one user's turn, as what the model was taught to answer."""

from collections.abc import Sequence
from typing import Any

from exptilt.conversation import PLAIN, Prompt, Template, as_dicts, turns
from exptilt.errors import ModelError, PromptRefused
from exptilt.models import template_names
from exptilt.models.reference import ModelRef
from exptilt.storage.keys import content_key


def digest(ref: ModelRef, template: Template = PLAIN, why: str = "--chat") -> str:
    """What stands for the chat template of a checkpoint in a key.

    It is of the template's text, of its options where there are some, and of what it makes of one prompt
    (which holds the date where the template writes it).

    Raises ModelError where neither the tokenizer nor the run has a template, or it cannot be filled in;
    ConfigError where it does not read one of its options.
    """
    from exptilt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(ref)
    if not (template.text or tokenizer.chat_template):
        raise no_template(ref, why)
    text = template.text or tokenizer.get_chat_template()
    template_names.check_options(template, text)
    try:
        example = rendered(tokenizer, ["prompt"], template)
    except PromptRefused as error:
        raise ModelError(str(error)) from error
    return content_key([text, example, *([dict(template.options)] if template.options else [])])


def text_of(ref: ModelRef, template: Template) -> str:
    """The chat template of a run, "" where it has none."""
    from exptilt.models.loading import load_tokenizer

    tokenizer = load_tokenizer(ref)
    return template.text or (tokenizer.get_chat_template() if tokenizer.chat_template else "")


def no_template(ref: ModelRef, why: str) -> ModelError:
    """The error for a base model that has no chat template; `why` it needs one."""
    return ModelError(
        f"{why}: the tokenizer of {ref.name!r} has no chat template; give one by --chat-template FILE, or "
        "run without --chat on prompts that are texts"
    )


def rendered(tokenizer: Any, prompts: Sequence[Prompt], template: Template = PLAIN) -> list[str]:
    """Each prompt with what opens the answer; special tokens are in the text.

    Raises PromptRefused, with the prompt's place, where the template cannot be filled in so.
    """
    return [_rendered(tokenizer, prompt, place, template) for place, prompt in enumerate(prompts)]


def _rendered(tokenizer: Any, prompt: Prompt, place: int, template: Template) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                as_dicts(turns(prompt)),
                chat_template=template.text or None,
                tokenize=False,
                add_generation_prompt=True,
                **dict(template.options),
            )
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PromptRefused(
            f"{'the --chat-template, for' if template.text else 'the chat template of'} "
            f"{tokenizer.name_or_path!r} fails: {reason}",
            place,
        ) from error
