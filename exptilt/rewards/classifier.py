"""Rewards by a sequence-classification model: one logit of the text, or of the conversation pair."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from exptilt import stop
from exptilt.engines.checkpoint import load_model, load_tokenizer
from exptilt.errors import ModelError
from exptilt.rewards.base import CONVERSATION, Rewards, RewardSpec

TOKENS_AT_ONCE = {"cpu": 8192, "cuda": 131072}


class ClassifierReward:
    """r(x, y) = logit of one label of a sequence classifier."""

    def __init__(self, spec: RewardSpec, device: str, dtype: str) -> None:
        role = f"value {spec.value!r}: the model"
        self.spec, self.device = spec, device
        self.tokenizer = load_tokenizer(spec.model)
        self.model = load_model(AutoModelForSequenceClassification, spec.model, role, device, dtype)
        if spec.label >= self.model.config.num_labels:
            raise ModelError(f"{role} {spec.model.name!r} has no label {spec.label}")
        self._agree_on_padding()

    def _agree_on_padding(self) -> None:
        """Give GPT-2 and its like a pad token: a batch is masked, and the model finds its last token."""
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.tokenizer.padding_side = "right"
        self.tokenizer.truncation_side = "left"

    @torch.inference_mode()
    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Rewards:
        """See base.Reward. Texts are sorted by length and scored in batches of a token budget."""
        texts = [self._text(x, y) for x, y in zip(prompts, completions, strict=True)]
        ids = [self._encode(text) for text in texts]
        rewards = np.empty(len(texts), dtype=np.float64)
        for places in self._batches(ids):
            stop.check()
            rewards[places] = self._forward([ids[i] for i in places])
        return rewards

    def _text(self, prompt: str, completion: str) -> tuple[str, ...]:
        if not self.spec.pair:
            return (prompt + completion,)
        before, after = CONVERSATION
        return (f"{before}{prompt}{after}", completion.strip())

    def _encode(self, text: tuple[str, ...]) -> Any:
        return self.tokenizer(*text, verbose=False, truncation="longest_first", max_length=self._most())

    def _most(self) -> int:
        return min(int(self.model.config.max_position_embeddings), int(self.tokenizer.model_max_length))

    def _batches(self, ids: list[Any]) -> list[list[int]]:
        budget = TOKENS_AT_ONCE[torch.device(self.device).type]
        batches: list[list[int]] = []
        for place in sorted(range(len(ids)), key=lambda i: len(ids[i]["input_ids"])):
            length = max(len(ids[place]["input_ids"]), 1)
            if batches and (len(batches[-1]) + 1) * length <= budget:
                batches[-1].append(place)
            else:
                batches.append([place])
        return batches

    def _forward(self, encoded: list[Any]) -> Rewards:
        batch = self.tokenizer.pad(encoded, return_tensors="pt").to(self.device)
        logits = self.model(**batch).logits[:, self.spec.label]
        return np.asarray(logits.double().cpu().numpy(), dtype=np.float64)
