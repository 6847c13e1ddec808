"""Completions from a server with the OpenAI API (vLLM, SGLang, transformers serve, …), a request per sample.

Every sample is a request of its own with a seed of its own, so that n, shards and retries change no draw as
far as the server heeds its seeds; whether it does is tried out before the first draw. Servers give log
probabilities of the raw or of the truncated law and do not say of which, so `logprob` and `nll` are None.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import Prompt, Template, as_dicts, text_of, turns
from exptilt.engines.base import FINISH_REASONS, P0, Capabilities, EngineSpec, Sample
from exptilt.errors import ModelError, PromptRefused
from exptilt.models.reference import ModelRef, is_url, served
from exptilt.models.requests import IN_FLIGHT, RETRIES, at_once

TRIES: Final = 8
TRIED: Final = "Once upon a time"

Law = Callable[[P0], dict[str, Any]]


def _sampler(p0: P0) -> dict[str, Any]:
    """What vLLM, SGLang and llama.cpp take beside the standard; unsaid, some use the model's own defaults."""
    return {"top_k": p0.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}


def _generation_config(p0: P0) -> dict[str, Any]:
    """What transformers serve takes in its place; unsaid, it does not sample at all."""
    names = ("temperature", "top_k", "top_p", "max_new_tokens")
    law = {name: getattr(p0, name) for name in names}
    return {"generation_config": json.dumps({**law, "do_sample": True, "repetition_penalty": 1.0})}


def _standard(p0: P0) -> dict[str, Any]:
    return {}


LAWS: Final[tuple[Law, ...]] = (_sampler, _generation_config, _standard)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a server is asked.

    Attributes:
        key: the server's, that of the environment if empty.
        written: a prompt of no chat, and what it is continued with, as the request has them: a text, or
            token ids.
        more: what every request says beside p0.
        retries: of a request that fails for a reason that may pass.
    """

    key: str = ""
    written: Callable[[Prompt, str], str | list[int]] = lambda prompt, more: text_of(prompt) + more
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    retries: int = RETRIES


PLAINLY: Final = Asking()


class OpenAIEngine:
    """y ~ p0(.|x) by a server."""

    def __init__(self, p0: P0, asking: Asking = PLAINLY) -> None:
        """Ask the server for a first token, and whether it heeds top_k.

        Raises ServerError where it does not answer, ModelError where it cannot draw from `p0`.
        """
        self.p0, self.asking, self.notes = p0, asking, dict[str, Any]()
        self.name = p0.model.name
        from exptilt.models.openai_client import connect

        root, _, self.model = p0.model.source.partition("#")
        self.client = connect(root, asking.key)
        self.law = self._find_law()
        self._check_top_k()
        self.client = self.client.with_options(max_retries=asking.retries)

    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """See base.Engine; `batch_size` requests are in flight at once.

        Raises PromptRefused where the server gives no text for a prompt, though for another.
        """
        in_flight = batch_size or IN_FLIGHT
        if not self.notes:
            self._check_seeds(in_flight)
        rows, n = zip(prompts, seeds.tolist(), strict=True), seeds.shape[1]
        asked = [(place, prompt, seed) for place, (prompt, row) in enumerate(rows) for seed in row]
        try:
            flat = self._draw_all(asked, self.p0, in_flight)
        except PromptRefused:
            self._tried(self.p0, range(1), 1)
            raise
        return [flat[i : i + n] for i in range(0, len(flat), n)]

    def _draw_all(self, asked: list[tuple[int, Prompt, int]], p0: P0, in_flight: int) -> list[Sample]:
        """A sample of every (place, prompt, seed)."""
        return at_once(lambda each: self._sample(*each, p0), asked, in_flight)

    def _sample(self, place: int, prompt: Prompt, seed: int, p0: P0) -> Sample:
        from exptilt.models.openai_client import explained

        what = f"the prompt that begins {text_of(prompt)[:60]!r}"
        refused = functools.partial(PromptRefused, place=place)
        with explained(self.name, what, refused):
            choice, usage = self._ask(prompt, seed, p0, self.law)
        text = choice.message.content if p0.chat else choice.text
        if text is None or choice.finish_reason not in FINISH_REASONS:
            kept = "" if text is not None else " and gives no text (does it parse reasoning or tool calls?)"
            raise refused(f"{self.name} ends {what} by {choice.finish_reason!r}{kept}")
        text_came = isinstance(getattr(choice, "stop_reason", None), str)  # vLLM and SGLang say which
        ended = choice.finish_reason == "stop" and not text_came  # the end token is among the tokens used
        count = max(usage.completion_tokens - ended, 0)
        return Sample(text, count, choice.finish_reason, logprob=None, nll=None)

    def _ask(self, prompt: Prompt, seed: int, p0: P0, law: Law) -> tuple[Any, Any]:
        """The server's choice and usage; of the seed its last 31 bits, which every server takes."""
        settings = {
            "model": self.model,
            "temperature": p0.temperature,
            "top_p": p0.top_p,
            "max_tokens": p0.max_new_tokens,
            "seed": seed & 0x7FFFFFFF,
            **({"stop": list(p0.stop)} if p0.stop else {}),
            "extra_body": {**law(p0), **_filled(p0.template), **self.asking.more},
        }
        if p0.chat:
            messages: Any = as_dicts(turns(prompt))
            answer = self.client.chat.completions.create(messages=messages, **settings)
        else:
            answer = self.client.completions.create(prompt=self.asking.written(prompt, ""), **settings)
        if not getattr(answer, "choices", None) or not getattr(answer, "usage", None):
            raise ValueError(" ".join(str(answer).split())[:60])
        return answer.choices[0], answer.usage

    def _find_law(self) -> Law:
        """The way in which the server takes top_k, found by asking for one token."""
        from exptilt.models.openai_client import UNKNOWN_PARAMETER, explained

        one = dataclasses.replace(self.p0, max_new_tokens=1)
        with explained(self.name, "a first request"):
            for law in LAWS[:-1]:
                with contextlib.suppress(*UNKNOWN_PARAMETER):
                    self._ask(TRIED, 0, one, law)
                    return law
            self._ask(TRIED, 0, one, _standard)
        if self.p0.top_k:
            raise ModelError(f"{self.name} takes no top_k: use --top-k 0")
        return _standard

    def _check_top_k(self) -> None:
        """Refuse a server that draws many texts where only the likeliest token is kept; a few may differ by
        the last bits of a logit."""
        likeliest = self._tried(self._short(1), range(TRIES), IN_FLIGHT) if self.p0.top_k else []
        if _distinct(likeliest) > TRIES // 2:
            raise ModelError(f"{self.name} ignores top_k: use --top-k 0")

    def _check_seeds(self, in_flight: int) -> None:
        """Warn where seeds, as many at once as in the run, do not make the draw; kept in the notes."""
        first = self._tried(self._short(0), range(TRIES), in_flight)
        again = self._tried(self._short(0), range(TRIES)[::-1], in_flight)[::-1]
        changed = sum(a != b for a, b in zip(first, again, strict=True))
        alike = _distinct(first) == 1
        self.notes = {"seeded": not changed and not alike}
        if alike:
            _warn(f"{self.name} gives one answer to {TRIES} seeds: it seems not to sample")
        elif changed:
            advice = "; --batch-size 1 asks one by one" if in_flight > 1 else ""
            _warn(f"{self.name} gives other answers to {changed} of {TRIES} seeds, asked again{advice}")

    def _short(self, top_k: int) -> P0:
        """Short texts at temperature 1."""
        return dataclasses.replace(
            self.p0, temperature=1.0, top_p=1.0, top_k=top_k, max_new_tokens=16, stop=()
        )

    def _tried(self, p0: P0, seeds: Sequence[int], in_flight: int) -> list[Sample]:
        """Samples of a harmless prompt; ModelError where it is refused: no prompt is the cause."""
        try:
            return self._draw_all([(0, TRIED, seed) for seed in seeds], p0, in_flight)
        except PromptRefused as error:
            raise ModelError(str(error)) from None


def _filled(template: Template) -> dict[str, Any]:
    """What vLLM and SGLang take to fill a chat template in otherwise."""
    text = {"chat_template": template.text} if template.text else {}
    return {**text, **({"chat_template_kwargs": dict(template.options)} if template.options else {})}


def _distinct(samples: Sequence[Sample]) -> int:
    return len({sample.completion for sample in samples})


def _warn(said: str) -> None:
    print(f"warning: {said}", file=sys.stderr, flush=True)


def _base_model(name: str) -> ModelRef | None:
    return served("", name, engine="openai") if is_url(name) else None


ENGINE: Final = EngineSpec(
    name="openai",
    can=Capabilities(
        is_local=False, gives_likelihood=False, measures_prompts=False, short_trial=False, chat="server"
    ),
    base_model=_base_model,
    load=lambda p0, device: OpenAIEngine(p0),
)
