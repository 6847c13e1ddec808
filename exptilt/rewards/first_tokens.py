"""A language model behind a server as a judge: the first tokens of its answers, with their probabilities."""

import contextlib
import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from exptilt.conversation import Prompt
from exptilt.errors import PromptRefused, ServerError
from exptilt.models.openai_client import UNKNOWN_PARAMETER, connect, explained
from exptilt.models.reference import at_server
from exptilt.models.requests import RETRIES
from exptilt.rewards.answers import KEPT, answers
from exptilt.shared import shared

TRIED: Final = "Answer with one word: is snow white?"
ROUNDING: Final = 0.01  # by which probabilities may add up to more than 1
WRITTEN: Final = 8  # tokens of an answer that is read as text
Tokens = tuple[tuple[str, float], ...]  # first tokens of an answer and their probabilities


class Way(NamedTuple):
    """How a server is asked: for the probabilities of so many first tokens, 0 for the text instead; and
    whether the model is told not to think first."""

    likeliest: int
    without_thinking: bool


WAYS: Final = tuple(Way(*each) for each in itertools.product((20, 5, 0), (True, False)))


def gives(source: str) -> Literal["expected", "written"]:
    """What the judge at `source` gives; "expected" where the server does not answer now, which its first
    question will say. Raises ModelError where it cannot be asked."""
    try:
        return judge(source).gives
    except ServerError:
        return "expected"


@shared
def judge(source: str) -> "Judge":
    """The judge behind a server, URL#MODEL, tried out once."""
    return Judge(source)


class Judge:
    """First tokens of a language model's answers, the latest kept."""

    def __init__(self, source: str) -> None:
        """Find out how the server is asked.

        Raises ServerError where it does not answer, ModelError where it cannot be asked.
        """
        self.name = source
        root, self.model = at_server(source)
        self.client = connect(root)
        self.way = self._find_way()
        self.gives: Literal["expected", "written"] = "expected" if self.way.likeliest else "written"
        self.client = self.client.with_options(max_retries=RETRIES)
        self._kept = lru_cache(maxsize=KEPT)(self._answer)

    def answers(self, questions: Sequence[str], prompts: Sequence[Prompt], in_flight: int) -> list[Tokens]:
        """The answers [S] to the questions [S]; see rewards.answers."""
        try:
            return answers(self._kept, questions, prompts, self.name, in_flight)
        except PromptRefused:
            with explained(self.name, "a plain question"):
                self._answer(TRIED)
            raise

    def _answer(self, question: str) -> Tokens:
        tokens = self._ask(question, self.way)
        if not tokens:
            raise ValueError("no probabilities")
        return tokens

    def _find_way(self) -> Way:
        """The first of WAYS that the server takes and that gives an answer."""
        with explained(self.name, "a first question"):
            for way in WAYS[:-1]:
                with contextlib.suppress(*UNKNOWN_PARAMETER):
                    if self._ask(TRIED, way):
                        return way
            self._ask(TRIED, WAYS[-1])
        return WAYS[-1]

    def _ask(self, question: str, way: Way) -> Tokens:
        """The first tokens of the answer; none where probabilities were asked for and are not given."""
        likeliest, without_thinking = way
        law = {"logprobs": True, "top_logprobs": likeliest, "max_tokens": 1, "temperature": 1.0}
        answer: Any = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            top_p=1.0,
            **(law if likeliest else {"max_tokens": WRITTEN, "temperature": 0.0}),
            extra_body={"chat_template_kwargs": {"enable_thinking": False}} if without_thinking else {},
        )
        try:
            return _likeliest(answer.choices[0]) if likeliest else _written(answer.choices[0])
        except (AttributeError, IndexError, TypeError):
            raise ValueError(" ".join(str(answer).split())[:60]) from None


def _written(choice: Any) -> Tokens:
    """The first word of an answer, as certain."""
    word = next(iter((choice.message.content or "").split()), "")
    return ((word, 1.0),)


def _likeliest(choice: Any) -> Tokens:
    """The likeliest first tokens of an answer; the drawn one is among them or is added."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content or not content[0].top_logprobs:
        return ()
    drawn, listed = content[0], content[0].top_logprobs
    if drawn.token not in {each.token for each in listed}:
        listed = [*listed, drawn]
    tokens = tuple((each.token, math.exp(min(each.logprob, 1.0))) for each in listed)
    if sum(chance for _, chance in tokens) > 1 + ROUNDING:
        raise ValueError(f"log-probabilities that add up to more than 1: {listed[0].logprob}")
    return tokens
