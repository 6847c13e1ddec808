"""Perplexity as a reward: minus the mean token NLL of prompt + completion under the base model.

The name is the research code's; the number is −log perplexity, in nats per token. It comes from the
logits that the engine saw while it drew, and from a forward pass where the engine could not say.
"""

from collections.abc import Sequence

import numpy as np

from exptilt.errors import RewardError
from exptilt.rewards.base import RewardSpec, Scored


class PerplexityReward:
    """r(x, y) = −nll(x + y), untruncated and at temperature 1."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        self.spec, self.device = spec, device

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        texts = [x + y for x, y in zip(prompts, completions, strict=True)]
        missing = [i for i, nll in enumerate(nlls) if nll is None]
        found = list(nlls)
        for i, nll in zip(missing, self._forward([texts[i] for i in missing]), strict=True):
            if nll is None:
                raise RewardError(f"perplexity of a text of one token is not defined: {texts[i][:60]!r}")
            found[i] = nll
        return Scored(-np.array(found, dtype=np.float64), recomputed=len(missing))

    def _forward(self, texts: list[str]) -> list[float | None]:
        if not texts:
            return []
        from exptilt.engines.checkpoint import causal_model, load_tokenizer
        from exptilt.engines.likelihood import text_nll

        model = causal_model(self.spec.model, self.device, self.spec.dtype)
        return text_nll(model, load_tokenizer(self.spec.model), texts, self.device)
