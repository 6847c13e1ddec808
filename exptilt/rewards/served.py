"""Rewards by a sequence classifier behind a server: raw logits, by vLLM's /classify, /pooling and /score.

Every sample is a request. Whether the server gives logits where they are asked for, and what it makes of
them where they are not, is tried before the first sample.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from scipy.special import expit, softmax

from exptilt.conversation import Prompt, as_dicts
from exptilt.errors import ModelError, PromptRefused
from exptilt.models.openai_client import NO_SUCH_ROUTE, connect, explained
from exptilt.models.reference import at_server
from exptilt.models.requests import RETRIES
from exptilt.rewards import labels
from exptilt.rewards.answers import KEPT, answers, named
from exptilt.rewards.base import Form, Rewards, RewardSpec, Scored
from exptilt.rewards.forms import Seen, seen
from exptilt.rewards.logits import transformed
from exptilt.shared import shared

API: Final = "vLLM's"
CLASSIFY: Final = "/classify"
POOLING: Final = "/pooling"
SCORE: Final = "/score"  # two segments, of a model with one label
TRIED: Final = ("Is it raining?", "Once upon a time", "The towels")
ANSWERED: Final = (" No.", " there was a king", " were paid for by the goose")
NEAR: Final = 0.02  # what another batch may move in a probability
ACTIVATIONS: Final[dict[str, Callable[[Rewards], Rewards]]] = {
    "regression": lambda logits: logits,
    "multi_label_classification": expit,
    "single_label_classification": lambda logits: np.asarray(softmax(logits, axis=1)),
}


class ServedReward:
    """r(x, y) = a transform of one logit that a server gives."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec
        with named(spec.value):
            self.classifier = classifier(spec.model.source, spec.form)
        found = self.classifier.labels
        self.label = labels.number(spec, found)
        if spec.transform != "logit" and not found.has_probabilities:
            raise ModelError(
                f"value {spec.value!r}: {spec.model.name} makes no sigmoid or softmax of its logits, so "
                f"there is no probability; leave :{spec.transform} out"
            )
        self.is_multi_label = labels.is_multi_label(spec, found)

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward.

        Raises PromptRefused where the server refuses a sample, though not others.
        """
        with named(self.spec.value):
            logits = self.classifier.logits(prompts, completions, self.spec.in_flight)
        return Scored(transformed(logits, self.label, self.spec.transform, self.is_multi_label))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedLabels:
    """The labels of a server's classifier, named as in a configuration; their names are not known.

    `problem_type` says what the server makes of logits, "" where that is none of ACTIVATIONS.
    """

    num_labels: int
    problem_type: str
    label2id: None = None

    @property
    def id2label(self) -> dict[int, str]:
        """The labels by their number, which stands for the name."""
        return {number: str(number) for number in range(self.num_labels)}

    @property
    def has_probabilities(self) -> bool:
        """Whether a label has a probability."""
        return self.problem_type in ("multi_label_classification", "single_label_classification")


@shared
def classifier(source: str, form: Form) -> "ServedClassifier":
    """The classifier behind a server, asked for its labels once; values that share it share its answers.

    Args:
        source: the server and the model, as URL#MODEL.
        form: how the classifier sees samples.
    """
    return ServedClassifier(source, form)


class ServedClassifier:
    """Logits by a server, the latest kept."""

    def __init__(self, source: str, form: Form) -> None:
        """Ask for the logits of some texts.

        Raises ServerError where the server does not answer, ModelError where it gives no raw logits.
        """
        self.name, self.form = source, form
        root, self.model = at_server(source)
        self.client, self.root = connect(root), root.removesuffix("/v1")
        self.route = self._find_route()
        self.labels = self._find_labels()
        self.client = self.client.with_options(max_retries=RETRIES)
        self._kept = lru_cache(maxsize=KEPT)(self._logits)

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[str], in_flight: int) -> Rewards:
        """Logits [S, labels] of S samples; see rewards.answers."""
        questions = seen(self.form, prompts, completions)
        try:
            rows = answers(self._kept, questions, prompts, self.name, in_flight, self._api)
        except PromptRefused:
            with explained(self.name, "a plain text", api=self._api):
                self._logits(self._tried[0])
            raise
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.labels.num_labels)

    @property
    def _api(self) -> str:
        return f"{API} {self.route}"

    @property
    def _tried(self) -> list[Seen]:
        return seen(self.form, TRIED, ANSWERED)

    def _find_route(self) -> str:
        """The route that answers; /score only where there are logits, too, since it gives cosines else."""
        text = seen("text", TRIED, ANSWERED)[0]
        what = "the question for logits by /classify or /pooling (does it serve a classifier?)"
        with explained(self.name, what, api=f"{API} {CLASSIFY}"):
            try:
                self._ask(CLASSIFY, text)
                found = CLASSIFY
            except NO_SUCH_ROUTE:
                self._ask(POOLING, text)
                found = POOLING
        return SCORE if self.form == "pair" else found

    def _find_labels(self) -> ServedLabels:
        """The labels, and what the server makes of logits; ModelError where it gives no raw ones."""
        what = {
            "pair": "two texts by /score (which vLLM has for models of one label)",
            "chat": f"a conversation by {self.route} (:text gives it texts)",
        }
        with explained(self.name, what.get(self.form, f"texts by {self.route}"), api=self._api):
            raw, activated = (
                np.array([self._ask(self.route, each, activation) for each in self._tried])
                for activation in (False, True)
            )
        kind = problem_type(raw, activated)
        if kind == "regression" and ((raw >= 0) & (raw <= 1)).all():
            raise ModelError(
                f"{self.name} gives numbers between 0 and 1 also where raw logits are asked for; they may be "
                "probabilities: use a server that follows use_activation, as vLLM does"
            )
        return ServedLabels(num_labels=raw.shape[1], problem_type=kind)

    def _logits(self, question: Seen) -> tuple[float, ...]:
        numbers = self._ask(self.route, question)
        if len(numbers) != self.labels.num_labels:
            raise ValueError(f"{len(numbers)} in place of {self.labels.num_labels} logits")
        return numbers

    def _ask(self, route: str, question: Seen, activation: bool = False) -> tuple[float, ...]:
        """The numbers of every label; an activation has other names in older servers."""
        body = {
            "model": self.model,
            **_put(route, question),
            "use_activation": activation,
            "activation": activation,
        }
        return _numbers(self.client.post(f"{self.root}{route}", cast_to=object, body=body))


def _put(route: str, question: Seen) -> dict[str, Any]:
    """What a request says of a sample."""
    if route == SCORE:
        return {"text_1": question[0], "text_2": question[1]}
    task = {"task": "classify"} if route == POOLING else {}
    if isinstance(question[0], str):
        return {"input": question[0], **task}
    return {"messages": as_dicts(question), **task}


def _numbers(answer: Any) -> tuple[float, ...]:
    """The numbers of the one text of a request; ValueError where the answer does not hold them."""
    try:
        (item,) = answer["data"]
        found = [item["score"]] if "score" in item else item.get("probs") or item["data"]
        return tuple(number + 0.0 for number in found)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(" ".join(str(answer).split())[:60]) from None


def problem_type(logits: Rewards, activated: Rewards) -> str:
    """What makes `activated` [S, labels] of `logits` [S, labels], as a configuration's problem_type; "" where
    nothing known does."""
    apart = {name: float(np.abs(f(logits) - activated).max()) for name, f in ACTIVATIONS.items()}
    nearest = min(apart, key=lambda name: apart[name])
    return nearest if apart[nearest] <= NEAR else ""
