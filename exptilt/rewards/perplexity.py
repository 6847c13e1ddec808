"""Perplexity as a reward: minus the mean token NLL of prompt + completion under the base model."""

from collections.abc import Sequence

import numpy as np

from exptilt.errors import RewardError
from exptilt.rewards.base import Rewards, RewardSpec


class PerplexityReward:
    """r(x, y) = −nll, from what the engine saw while it drew (nats per token)."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Rewards:
        """See base.Reward."""
        for prompt, nll in zip(prompts, nlls, strict=True):
            if nll is None:
                raise RewardError(f"perplexity of a text of one token is not defined: {prompt!r}")
        return -np.array(nlls, dtype=np.float64)
