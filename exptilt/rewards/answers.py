"""What a server answers about each sample: asked once for equal samples, its failures in one line."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final, TypeVar

from exptilt.conversation import Prompt, text_of
from exptilt.errors import ModelError, PromptRefused, ServerError
from exptilt.models.openai_client import OPENAI, explained
from exptilt.models.requests import IN_FLIGHT, at_once

KEPT: Final = 2**14  # answers of a server, for the next value, and for halves of what failed
Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


def answers(
    ask: Callable[[Q], A],
    questions: Sequence[Q],
    prompts: Sequence[Prompt],
    name: str,
    in_flight: int,
    api: str = OPENAI,
) -> list[A]:
    """The answers [S] to the questions [S] about samples of `prompts` [S].

    Args:
        ask: makes one request.
        questions: what is asked.
        prompts: of the samples.
        name: the server's.
        in_flight: requests at once; 0 for IN_FLIGHT.
        api: what it is asked by.

    Raises:
        PromptRefused: the server refuses one, and may answer the others.
        ModelError: it refuses to answer at all.
        ServerError: it does not answer now.
        Stopped: the run was asked to stop.
    """
    of = dict(zip(questions, prompts, strict=True))

    def one(question: Q) -> A:
        with explained(name, sample_of(of[question]), PromptRefused, api):
            return ask(question)

    found = dict(zip(of, at_once(one, of, in_flight or IN_FLIGHT), strict=True))
    return [found[question] for question in questions]


def sample_of(prompt: Prompt) -> str:
    """A sample as errors name it."""
    return f"a sample of the prompt that begins {text_of(prompt)[:60]!r}"


@contextlib.contextmanager
def named(value: str) -> Iterator[None]:
    """Raise a server's failures with the name of the value that asked it."""
    try:
        yield
    except (ModelError, ServerError) as error:
        raise type(error)(f"value {value!r}: {error}") from error
