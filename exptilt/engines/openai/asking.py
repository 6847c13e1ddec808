"""What is asked of a server for each sample, and what of its answer becomes the sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from exptilt.conversation import Prompt, text_of
from exptilt.engines.base import P0, Sample
from exptilt.engines.openai import likelihood
from exptilt.engines.openai.answers import Answer
from exptilt.engines.openai.request_body import TEXT_ONLY, Beside
from exptilt.models.requests import RETRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a server is asked.

    Attributes:
        key: the server's, that of the environment if empty.
        written: a prompt of no chat, and what it is continued with, as the request has them: a text, or
            token ids.
        more: what every request says beside p0.
        retries: of a request that fails for a reason that may pass.
        device: of the run, that the tokens drawn are counted under.
    """

    key: str = ""
    written: Callable[[Prompt, str], str | list[int]] = lambda prompt, more: text_of(prompt) + more
    more: dict[str, Any] = field(default_factory=dict)
    retries: int = RETRIES
    device: str = "cpu"


PLAINLY: Final = Asking()


class Asked(NamedTuple):
    """A sample to ask for: its prompt's place, the prompt, its seed, what is asked for beside, and the ids of
    the completion's first tokens, where only the rest is to be drawn."""

    place: int
    prompt: Prompt
    seed: int
    beside: Beside = TEXT_ONLY
    begun: tuple[int, ...] = ()


class Scored(NamedTuple):
    """A sample without its nll; the raw log-probabilities of the prompt's tokens, where asked for, and of the
    completion's, None where not known."""

    sample: Sample
    prompt: list[float] | None
    own: list[float] | None


def kept(asked: Asked, answer: Answer, p0: P0) -> dict[str, Any]:
    """What of the answer a sample keeps beside its text."""
    return {
        "tokens": answer.tokens if asked.beside.ids else None,
        "reasoning": answer.reasoning if p0.reasoning == "keep" else None,
    }


def with_nll(scored: Sequence[Scored]) -> list[Sample]:
    """The samples of one prompt, whose tokens' log-probabilities came with the first, each with its nll where
    all of it is known."""
    prompt = scored[0].prompt
    return [
        sample if prompt is None or own is None else sample._replace(nll=likelihood.mean_nll(prompt, own))
        for sample, _, own in scored
    ]
