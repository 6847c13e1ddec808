"""Rewards by a sequence-classification model: one label's logit, probability or log-probability."""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from exptilt.conversation import Prompt
from exptilt.errors import ModelError
from exptilt.models.batching import Budget, in_batches
from exptilt.models.forward import accepted
from exptilt.models.loading import load_model, own_tokenizer
from exptilt.models.reference import ModelRef
from exptilt.models.tokenization import refuse_unknown
from exptilt.rewards import labels
from exptilt.rewards.base import Form, Rewards, RewardSpec, Scored
from exptilt.rewards.encoding import TRIED, Encoded, Numbers, Texts, agrees
from exptilt.rewards.forms import Seen, seen
from exptilt.rewards.logits import transformed
from exptilt.rewards.prefix_sharing import last_logits
from exptilt.shared import shared

TOKENS_AT_ONCE: Final = {"cpu": 2**10, "cuda": 2**17}  # on a CPU, what its caches hold
Way = Callable[["Classifier", list[Encoded], Sequence[Prompt]], Numbers]
KEPT: Final = 16  # sets of logits that values of one model may share


class ClassifierReward:
    """r(x, y) = a transform of one logit of a sequence classifier."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        self.spec = spec
        try:
            self.classifier = classifier(spec.model, spec.form, spec.dtype, device)
        except ModelError as error:
            raise ModelError(f"value {spec.value!r}: {error}") from error
        config = self.classifier.model.config
        self.label, self.is_multi_label = labels.number(spec, config), labels.is_multi_label(spec, config)

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        logits, cut = self.classifier.logits(prompts, completions)
        return Scored(transformed(logits, self.label, self.spec.transform, self.is_multi_label), cut=cut)


@shared
def _model(ref: ModelRef, dtype: str, device: str) -> Any:
    return load_model(AutoModelForSequenceClassification, ref, "model", device, dtype)


@shared
def classifier(model: ModelRef, form: Form, dtype: str, device: str) -> "Classifier":
    """The classifier, made once; values that share it share its forward passes."""
    return Classifier(model, form, dtype, device)


class Classifier:
    """Logits of a sequence classifier, kept for the next value that asks for the same texts.

    `way` computes them, the fastest that gives each text's own numbers.
    """

    def __init__(self, ref: ModelRef, form: Form, dtype: str, device: str) -> None:
        self.form, self.device = form, device
        self.model = _model(ref, dtype, device)
        self.texts = Texts(own_tokenizer(ref, truncation_side="left"), self.model.config)
        self.budget = Budget(TOKENS_AT_ONCE[torch.device(device).type], device)
        self.lock, self.kept = Lock(), OrderedDict[str, tuple[Rewards, int]]()
        self.way = self._exact_way()

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> tuple[Rewards, int]:
        """Logits [S, labels] of S samples, and how many were cut."""
        texts = seen(self.form, prompts, completions)
        key = hashlib.blake2b(repr(texts).encode()).hexdigest()
        with self.lock:
            if key not in self.kept:
                self.kept[key] = self._compute(texts, prompts)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
            return self.kept[key]

    @torch.inference_mode()
    def _compute(self, texts: list[Seen], prompts: Sequence[Prompt]) -> tuple[Rewards, int]:
        encode: Any = self.texts.encode_conversations if self.form == "chat" else self.texts.encode
        encoded, cut = encode(texts)
        refuse_unknown(self.model, [row["input_ids"] for row in encoded])
        rows = self.way(self, encoded, prompts)
        return np.array(rows, dtype=np.float64).reshape(len(texts), -1), cut

    @torch.inference_mode()
    def _exact_way(self) -> Way:
        """The first of the ways that gives the numbers of texts alone; a causal model is judged by a text's
        last token, whatever stands behind it."""
        encoded, _ = self.texts.encode(TRIED)
        keys = ["begins alike", "begins alike", "alone"]
        exact = self._alone(encoded, keys)
        first: list[Way] = [Classifier._beginnings_once] if hasattr(self.model, "score") else []
        for way in (*first, Classifier._padded):
            if agrees(functools.partial(way, self, encoded, keys), exact, self.model.dtype):
                return way
        return Classifier._alone

    def _beginnings_once(self, rows: list[Encoded], prompts: Sequence[Prompt]) -> Numbers:
        return last_logits(self.model, [row["input_ids"] for row in rows], prompts, self.budget)

    def _padded(self, rows: list[Encoded], prompts: Sequence[Prompt]) -> Numbers:
        lengths = [len(row["input_ids"]) for row in rows]
        return in_batches(lengths, self.budget, lambda at: self._forward([rows[i] for i in at]))

    def _alone(self, rows: list[Encoded], prompts: Sequence[Prompt]) -> Numbers:
        return in_batches(
            [1] * len(rows), Budget(1, self.device), lambda at: self._forward([rows[i] for i in at])
        )

    def _forward(self, rows: list[Encoded]) -> list[list[float]]:
        batch = accepted(self.model, **self.texts.pad_right(rows, self.device))
        numbers: list[list[float]] = self.model(**batch).logits.double().tolist()
        return numbers
