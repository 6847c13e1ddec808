"""Rewards by a sequence-classification model: one label's logit, probability or log-probability."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Final

import numpy as np
import torch
from scipy.special import log_expit, log_softmax
from transformers import AutoModelForSequenceClassification

from exptilt.engines.batching import Budget, in_batches
from exptilt.engines.checkpoint import load_model, load_tokenizer
from exptilt.engines.prefix import last_logits
from exptilt.models import ModelRef
from exptilt.rewards import labels
from exptilt.rewards.base import Rewards, RewardSpec, Scored
from exptilt.rewards.catalogue import CONVERSATION
from exptilt.rewards.texts import Text, Texts

TOKENS_AT_ONCE: Final = {"cpu": 2**10, "cuda": 2**17}  # on a CPU, what its caches hold
KEPT: Final = 16  # sets of logits that values of one model may share


class ClassifierReward:
    """r(x, y) = a transform of one logit of a sequence classifier."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        self.spec = spec
        self.classifier = classifier(spec.model, spec.pair, spec.dtype, device, spec.value)
        config = self.classifier.model.config
        self.label, self.is_multi_label = labels.number(spec, config), labels.is_multi_label(spec, config)

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        logits, cut = self.classifier.logits(prompts, completions)
        if self.spec.transform != "logit":
            logits = log_expit(logits) if self.is_multi_label else log_softmax(logits, axis=1)
        numbers = logits[:, self.label]
        return Scored(np.exp(numbers) if self.spec.transform == "prob" else numbers, cut=cut)


@lru_cache(maxsize=128)
def classifier(model: ModelRef, pair: bool, dtype: str, device: str, value: str) -> "Classifier":
    """The classifier, loaded once per process; values that share it share its forward passes."""
    return Classifier(model, pair, dtype, device, value)


class Classifier:
    """Logits of a sequence classifier, kept for the next value that asks for the same texts."""

    def __init__(self, ref: ModelRef, pair: bool, dtype: str, device: str, value: str) -> None:
        role = f"value {value!r}: model"
        self.pair, self.device = pair, device
        self.model = load_model(AutoModelForSequenceClassification, ref, role, device, dtype)
        self.texts = Texts(load_tokenizer(ref), self.model.config)
        self.budget = Budget(TOKENS_AT_ONCE[torch.device(device).type], device)
        self.lock, self.kept = Lock(), OrderedDict[str, tuple[Rewards, int]]()

    def logits(self, prompts: Sequence[str], completions: Sequence[str]) -> tuple[Rewards, int]:
        """Logits [S, labels] of S texts, and how many texts were cut."""
        texts = [self._text(x, y) for x, y in zip(prompts, completions, strict=True)]
        key = hashlib.blake2b(repr(texts).encode()).hexdigest()
        with self.lock:
            if key not in self.kept:
                self.kept[key] = self._compute(texts, prompts)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
            return self.kept[key]

    def _text(self, prompt: str, completion: str) -> Text:
        if not self.pair:
            return (prompt + completion,)
        before, after = CONVERSATION
        return (f"{before}{prompt}{after}", completion.strip())

    @torch.inference_mode()
    def _compute(self, texts: list[Text], prompts: Sequence[str]) -> tuple[Rewards, int]:
        encoded, cut = self.texts.encode(texts)
        tokens = [row["input_ids"] for row in encoded]
        if hasattr(self.model, "score"):  # a causal model, judged by each text's last token
            rows = last_logits(self.model, tokens, prompts, self.budget)
        else:
            lengths = [len(row) for row in tokens]
            rows = in_batches(lengths, self.budget, lambda at: self._forward([encoded[i] for i in at]))
        return np.array(rows, dtype=np.float64).reshape(len(texts), -1), cut

    def _forward(self, rows: list[dict[str, list[int]]]) -> list[list[float]]:
        numbers: list[list[float]] = (
            self.model(**self.texts.pad_right(rows, self.device)).logits.double().tolist()
        )
        return numbers
