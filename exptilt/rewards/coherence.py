"""Coherence as a reward: cosine of the embeddings of prompt and completion (SimCSE, Gao et al. 2021)."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch
from transformers import AutoModel

from exptilt.engines.batching import Budget, in_batches
from exptilt.engines.checkpoint import load_model, load_tokenizer
from exptilt.errors import ModelError
from exptilt.rewards.base import Rewards, RewardSpec, Scored
from exptilt.rewards.classifier import TOKENS_AT_ONCE
from exptilt.rewards.texts import Texts


class CoherenceReward:
    """r(x, y) = cos(e(x), e(y)), e the pooler output, y stripped; each text is embedded once."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        role = f"value {spec.value!r}: model"
        self.device = device
        self.model = load_model(AutoModel, spec.model, role, device, spec.dtype)
        if getattr(self.model, "pooler", None) is None:
            raise ModelError(f"{role} {spec.model.name!r} has no pooler")
        self.texts = Texts(load_tokenizer(spec.model), self.model.config)
        self.lock = Lock()
        self.budget = Budget(TOKENS_AT_ONCE[torch.device(device).type], device)

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        ends = [y.strip() for y in completions]
        places = {text: i for i, text in enumerate(dict.fromkeys([*prompts, *ends]))}
        with self.lock:
            vectors, cut = self._embed(list(places))
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        first, second = (units[[places[text] for text in side]] for side in (prompts, ends))
        return Scored(np.asarray((first * second).sum(axis=1), dtype=np.float64), cut=cut)

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> tuple[Rewards, int]:
        """Pooler outputs [S, D] of S texts, and how many were cut."""
        encoded, cut = self.texts.encode([(text,) for text in texts])

        def forward(at: list[int]) -> list[list[float]]:
            batch = self.texts.pad_right([encoded[i] for i in at], self.device)
            numbers: list[list[float]] = self.model(**batch).pooler_output.double().tolist()
            return numbers

        rows = in_batches([len(row["input_ids"]) for row in encoded], self.budget, forward)
        return np.array(rows, dtype=np.float64), cut
