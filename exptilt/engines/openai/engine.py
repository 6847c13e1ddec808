"""Completions from a server with the OpenAI API, a request per sample.

Every sample is a request of its own with a seed of its own, so that n, shards and retries change no draw as
far as the server follows its seeds. Whether it does, and what it says of likelihoods, is tried out before the
first draw.
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import Prompt, as_dicts, text_of, turns
from exptilt.engines.base import FINISH_REASONS, P0, Sample
from exptilt.engines.openai import likelihood, likelihood_trial
from exptilt.engines.openai.answers import Answer, read
from exptilt.engines.openai.asking import PLAINLY, Asked, Asking, Scored, kept, with_nll
from exptilt.engines.openai.request_body import LAWS, TEXT_ONLY, Beside, Law, request_body, standard
from exptilt.errors import ModelError, PromptRefused
from exptilt.models.requests import IN_FLIGHT, at_once
from exptilt.run import current

TRIES: Final = 8
TRIED: Final = "Once upon a time"
BEHIND_REASONING: Final = "an answer behind reasoning has none of its own"
THOUGHT: Final = "</think>"  # ends reasoning in the text of most models that write some


class OpenAIEngine:
    """y ~ p0(.|x) by a server."""

    def __init__(self, p0: P0, asking: Asking = PLAINLY) -> None:
        """Ask the server for a first token, whether it follows top_k, and what it says of likelihoods.

        Raises ServerError where it does not answer, ModelError where it cannot draw from `p0`.
        """
        self.p0, self.asking, self.notes = p0, asking, dict[str, Any]()
        self.name = p0.model.name
        from exptilt.models.openai_client import connect

        root, _, self.model = p0.model.source.partition("#")
        self.client = connect(root, asking.key)
        self.law = self._find_law()
        self._check_top_k()
        self.beside, self.null = self._find_likelihood()
        self.notes.update({"null": self.null} if self.null else {})
        self.client = self.client.with_options(max_retries=asking.retries)

    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """See base.Engine; `batch_size` requests are in flight at once.

        Raises PromptRefused where the server gives no text for a prompt, though for another.
        """
        in_flight = batch_size or IN_FLIGHT
        if "seeded" not in self.notes:
            self._check_seeds(in_flight)
        rest = dataclasses.replace(self.beside, prompt=False)  # a prompt is the same to all its samples
        asked = [
            Asked(place, prompt, seed, rest if i else self.beside)
            for place, (prompt, row) in enumerate(zip(prompts, seeds.tolist(), strict=True))
            for i, seed in enumerate(row)
        ]
        try:
            flat = self._draw_all(asked, self.p0, in_flight)
        except PromptRefused:
            self._tried(self.p0, range(1), 1, self.beside)
            raise
        n = seeds.shape[1]
        return [with_nll(flat[i : i + n]) for i in range(0, len(flat), n)]

    def rests(
        self,
        prompts: Sequence[Prompt],
        begun: Sequence[Sequence[int]],
        seeds: NDArray[np.int64],
        batch_size: int,
    ) -> list[Sample]:
        """The rests [S] of completions of which the first tokens are given, where prompts are written as ids.

        Arguments as in base.Continuing. `nll` is that of the whole, all else is the rest's.
        """
        each = zip(prompts, seeds.tolist(), begun, strict=True)
        asked = [
            Asked(place, prompt, seed, self.beside, tuple(tokens))
            for place, (prompt, seed, tokens) in enumerate(each)
        ]
        found = self._draw_all(asked, self.p0, batch_size or IN_FLIGHT)
        return [sample for scored in found for sample in with_nll([scored])]

    def _draw_all(self, asked: list[Asked], p0: P0, in_flight: int) -> list[Scored]:
        """Every sample that is asked for."""
        return at_once(lambda each: self._sample(each, p0), asked, in_flight)

    def _sample(self, asked: Asked, p0: P0) -> Scored:
        from exptilt.models.openai_client import explained

        what = f"the prompt that begins {text_of(asked.prompt)[:60]!r}"
        refused = functools.partial(PromptRefused, place=asked.place)
        rest = dataclasses.replace(p0, max_new_tokens=p0.max_new_tokens - len(asked.begun))
        with explained(self.name, what, refused):
            answer = self._ask(asked.prompt, asked.seed, rest, self.law, asked.beside, begun=asked.begun)
        current().meter.drew(self.asking.device, answer.n_drawn)
        self._check_reasoning(answer, p0, what)
        lacks_text = answer.text is None and not p0.reasoning  # else it may end before its answer
        if lacks_text or answer.finish_reason not in FINISH_REASONS:
            none = " and gives no text (does it parse tool calls?)" if lacks_text else ""
            raise refused(f"{self.name} ends {what} by {answer.finish_reason!r}{none}")
        return self._scored(asked, answer, p0)

    def _check_reasoning(self, answer: Answer, p0: P0, what: str) -> None:
        """Raise ModelError for reasoning beside the answer that the user said nothing of, or in it."""
        if answer.reasoning and not p0.reasoning:
            raise ModelError(
                f"{self.name} gives reasoning beside its answer to {what}: use --reasoning keep (a column of "
                "its own) or drop, or, where the template can, --template-options enable_thinking=false"
            )
        if p0.reasoning and not answer.reasoning and THOUGHT in (answer.text or ""):
            raise ModelError(
                f"{self.name} leaves reasoning in its answer to {what}, which --reasoning {p0.reasoning} "
                "wants apart: start it with a reasoning parser (vLLM, SGLang: --reasoning-parser)"
            )

    def _known(self, asked: Asked, answer: Answer) -> set[str]:
        """Which likelihoods an answer says enough for."""
        return {"logprob", "nll"} - self.null.keys() if asked.beside.top and answer.own else set()

    def _scored(self, asked: Asked, answer: Answer, p0: P0) -> Scored:
        """The answer as a sample; of a text that a stop text cut, the likelihood is asked for anew."""
        own, text = answer.own or [], answer.text or ""
        n_tokens = max(answer.n_drawn - answer.ended, 0)
        known = self._known(asked, answer)
        is_cut = answer.by_text and "nll" in known
        sample = Sample(
            text,
            n_tokens,
            answer.finish_reason or "",
            logprob=likelihood.as_sampled(own, answer.tops or [], p0) if "logprob" in known else None,
            nll=self._nll_of(asked.prompt, text) if is_cut else None,
            rescored=is_cut,
            **kept(asked, answer, p0),
        )
        return Scored(sample, answer.prompt, None if is_cut or "nll" not in known else own[:n_tokens])

    def _nll_of(self, prompt: Prompt, completion: str) -> float | None:
        """The mean NLL of a text, tokenized anew; None where it is too long for another token."""
        from exptilt.models.openai_client import UNKNOWN_PARAMETER, explained

        one, asked = dataclasses.replace(self.p0, max_new_tokens=1, stop=()), Beside(prompt=True)
        what = f"a completion of the prompt that begins {text_of(prompt)[:60]!r}"
        with explained(self.name, what), contextlib.suppress(*UNKNOWN_PARAMETER):
            said = self._ask(prompt, 0, one, self.law, asked, completion).prompt
            return likelihood.mean_nll(said, []) if said is not None else None
        return None

    def _ask(
        self,
        prompt: Prompt,
        seed: int,
        p0: P0,
        law: Law,
        beside: Beside = TEXT_ONLY,
        more: str = "",
        begun: tuple[int, ...] = (),
    ) -> Answer:
        """The server's answer to a prompt, which is continued with a text or ids where it is no chat."""
        named: dict[str, Any] = {"model": self.model}
        named["extra_body"] = {**request_body(seed, p0, law, beside), **self.asking.more}
        if p0.chat:
            named["messages"], api = as_dicts(turns(prompt)), self.client.chat.completions
        else:
            written = self.asking.written(prompt, more)
            named["prompt"], api = [*written, *begun] if begun else written, self.client.completions
        return read(json.loads(api.with_raw_response.create(**named).content))

    def _find_law(self) -> Law:
        """The way in which the server takes top_k, found by asking for one token."""
        from exptilt.models.openai_client import UNKNOWN_PARAMETER, explained

        one = dataclasses.replace(self.p0, max_new_tokens=1)
        with explained(self.name, "a first request"):
            for law in LAWS[:-1]:
                with contextlib.suppress(*UNKNOWN_PARAMETER):
                    self._ask(TRIED, 0, one, law)
                    return law
            self._ask(TRIED, 0, one, standard)
        if self.p0.top_k:
            raise ModelError(f"{self.name} takes no top_k: use --top-k 0")
        return standard

    def _find_likelihood(self) -> likelihood_trial.Found:
        """What is asked for beside the text, and why columns are null that the server does not give."""
        from exptilt.models.openai_client import UNKNOWN_PARAMETER, explained, words

        if self.p0.reasoning:
            return likelihood_trial.Found(TEXT_ONLY, dict.fromkeys(("logprob", "nll"), BEHIND_REASONING))

        def ask(p0: P0, beside: Beside) -> Answer:
            return self._ask(TRIED, 0, p0, self.law, beside)

        with explained(self.name, "a request for log-probabilities"):
            return likelihood_trial.find(ask, self.p0, UNKNOWN_PARAMETER, words)

    def _check_top_k(self) -> None:
        """Refuse a server that draws many texts where only the likeliest token is kept; a few may differ by
        the last bits of a logit."""
        likeliest = self._tried(self._short(1), range(TRIES), IN_FLIGHT) if self.p0.top_k else []
        if len(set(likeliest)) > TRIES // 2:
            raise ModelError(f"{self.name} ignores top_k: use --top-k 0")

    def _check_seeds(self, in_flight: int) -> None:
        """Warn where seeds, as many at once as in the run, do not make the draw; kept in the notes."""
        first = self._tried(self._short(0), range(TRIES), in_flight)
        again = self._tried(self._short(0), range(TRIES)[::-1], in_flight)[::-1]
        changed = sum(a != b for a, b in zip(first, again, strict=True))
        alike = len(set(first)) == 1
        self.notes["seeded"] = not changed and not alike
        if alike:
            _warn(f"{self.name} gives one answer to {TRIES} seeds: it seems not to sample")
        elif changed:
            advice = "; --batch-size 1 asks one by one" if in_flight > 1 else ""
            _warn(f"{self.name} gives other answers to {changed} of {TRIES} seeds, asked again{advice}")

    def _short(self, top_k: int) -> P0:
        """Short texts at temperature 1, of reasoning, too."""
        plain = dataclasses.replace(self.p0, temperature=1.0, top_p=1.0, stop=(), reasoning="keep")
        return dataclasses.replace(plain, top_k=top_k, max_new_tokens=16)

    def _tried(self, p0: P0, seeds: Sequence[int], in_flight: int, beside: Beside = TEXT_ONLY) -> list[str]:
        """Texts drawn of a harmless prompt; ModelError where it is refused: no prompt is the cause."""
        try:
            asked = [Asked(0, TRIED, seed, beside) for seed in seeds]
            drawn = [scored.sample for scored in self._draw_all(asked, p0, in_flight)]
            return [(sample.reasoning or "") + sample.completion for sample in drawn]
        except PromptRefused as error:
            raise ModelError(str(error)) from None


def _warn(said: str) -> None:
    print(f"warning: {said}", file=sys.stderr, flush=True)
