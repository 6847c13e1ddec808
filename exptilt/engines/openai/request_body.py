"""What a request says: p0 in the words of each kind of server, and what is asked for beside the text."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from exptilt.conversation import Template
from exptilt.engines.base import P0

Law = Callable[[P0], dict[str, Any]]


def _sampler(p0: P0) -> dict[str, Any]:
    """What vLLM, SGLang and llama.cpp take beside the standard; unsaid, some use the model's own defaults."""
    return {"top_k": p0.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}


def _generation_config(p0: P0) -> dict[str, Any]:
    """What transformers serve takes in its place; unsaid, it does not sample at all."""
    names = ("temperature", "top_k", "top_p", "max_new_tokens")
    law = {name: getattr(p0, name) for name in names}
    return {"generation_config": json.dumps({**law, "do_sample": True, "repetition_penalty": 1.0})}


def standard(p0: P0) -> dict[str, Any]:
    """Nothing: the standard has no top_k."""
    return {}


LAWS: Final[tuple[Law, ...]] = (_sampler, _generation_config, standard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a request asks for beside its text.

    Attributes:
        top: of how many of the likeliest tokens, at each place, log-probabilities; 0 asks for none at all.
        ids: token ids, in the fields that vLLM documents.
        prompt: log-probabilities of the prompt's tokens, likewise.
    """

    top: int = 0
    ids: bool = False
    prompt: bool = False


TEXT_ONLY: Final = Beside()


def request_body(seed: int, p0: P0, law: Law, beside: Beside) -> dict[str, Any]:
    """A request but for model and prompt; of the seed its last 31 bits, which every server takes."""
    return {
        "temperature": p0.temperature,
        "top_p": p0.top_p,
        "max_tokens": p0.max_new_tokens,
        "seed": seed & 0x7FFFFFFF,
        **({"stop": list(p0.stop)} if p0.stop else {}),
        **law(p0),
        **_filled(p0.template),
        **_beside(beside, bool(p0.chat)),
    }


def _filled(template: Template) -> dict[str, Any]:
    """What vLLM and SGLang take to fill a chat template in otherwise."""
    text = {"chat_template": template.text} if template.text else {}
    return {**text, **({"chat_template_kwargs": dict(template.options)} if template.options else {})}


def _beside(beside: Beside, in_chat: bool) -> dict[str, Any]:
    top = {"logprobs": True, "top_logprobs": beside.top} if in_chat else {"logprobs": beside.top}
    ids = {"return_token_ids": True, "return_tokens_as_token_ids": True}
    return {
        **(top if beside.top else {}),
        **(ids if beside.ids else {}),
        **({"prompt_logprobs": 0} if beside.prompt else {}),
    }
