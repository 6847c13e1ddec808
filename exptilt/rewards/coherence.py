"""Coherence as a reward: cosine of the embeddings of prompt and completion (SimCSE, Gao et al. 2021)."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch
from transformers import AutoModel

from exptilt.conversation import Prompt, text_of
from exptilt.errors import ModelError
from exptilt.models.batching import Budget, in_batches
from exptilt.models.forward import accepted
from exptilt.models.loading import load_model, own_tokenizer
from exptilt.models.tokenization import refuse_unknown
from exptilt.rewards.base import Rewards, RewardSpec, Scored
from exptilt.rewards.classifier import TOKENS_AT_ONCE
from exptilt.rewards.encoding import TRIED, Encoded, Texts, agrees


class CoherenceReward:
    """r(x, y) = cos(e(x), e(y)), e the pooler output, y stripped; each text is embedded once."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        role = f"value {spec.value!r}: model"
        self.device = device
        self.model = load_model(AutoModel, spec.model, role, device, spec.dtype)
        if getattr(self.model, "pooler", None) is None:
            raise ModelError(f"{role} {spec.model.name!r} has no pooler")
        self.texts = Texts(own_tokenizer(spec.model, truncation_side="left"), self.model.config)
        self.lock = Lock()
        self.budget = Budget(TOKENS_AT_ONCE[torch.device(device).type], device)
        if not self._takes_padding():
            self.budget = Budget(1, device)  # every text alone

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        starts, ends = [text_of(x) for x in prompts], [y.strip() for y in completions]
        places = {text: i for i, text in enumerate(dict.fromkeys([*starts, *ends]))}
        with self.lock:
            vectors, cut = self._embed(list(places))
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        first, second = (units[[places[text] for text in side]] for side in (starts, ends))
        return Scored(np.asarray((first * second).sum(axis=1), dtype=np.float64), cut=cut)

    @torch.inference_mode()
    def _takes_padding(self) -> bool:
        """Whether a padded batch gives the embeddings of its texts alone."""
        rows, _ = self.texts.encode(TRIED)
        alone = [self._forward([row])[0] for row in rows]
        return agrees(lambda: self._forward(rows), alone, self.model.dtype)

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> tuple[Rewards, int]:
        """Pooler outputs [S, D] of S texts, and how many were cut."""
        encoded, cut = self.texts.encode([(text,) for text in texts])
        refuse_unknown(self.model, [row["input_ids"] for row in encoded])
        lengths = [len(row["input_ids"]) for row in encoded]
        rows = in_batches(lengths, self.budget, lambda at: self._forward([encoded[i] for i in at]))
        return np.array(rows, dtype=np.float64), cut

    def _forward(self, rows: list[Encoded]) -> list[list[float]]:
        batch = accepted(self.model, **self.texts.pad_right(rows, self.device))
        numbers: list[list[float]] = self.model(**batch).pooler_output.double().tolist()
        return numbers
