"""Perplexity as a reward: minus the mean token NLL of prompt + completion under the base model.

The name is the research code's; the number is −log perplexity, in nats per token, the prompt as the model
saw it. It comes from the logits that the engine saw while it drew, and from a forward pass where the engine
could not say.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from exptilt.conversation import Prompt
from exptilt.data.texts import texts_of
from exptilt.errors import RewardError
from exptilt.models.reference import SERVED
from exptilt.rewards.base import RewardSpec, Scored

if TYPE_CHECKING:
    from exptilt.models.likelihood import TextNLL


class PerplexityReward:
    """r(x, y) = −nll(x + y), untruncated and at temperature 1."""

    def __init__(self, spec: RewardSpec, device: str) -> None:
        self.spec, self.device = spec, device

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        missing = [i for i, nll in enumerate(nlls) if nll is None]
        if missing and self.spec.model.revision == SERVED:
            (text,) = texts_of([prompts[missing[0]]], [completions[missing[0]]])
            raise RewardError(f"{self.spec.model.name} gave no nll of the text that begins {text[:60]!r}")
        found = list(nlls)
        forward = self._forward([prompts[i] for i in missing], [completions[i] for i in missing])
        for i, (nll, _) in zip(missing, forward, strict=True):
            if nll is None:
                (text,) = texts_of(prompts[i : i + 1], completions[i : i + 1])
                raise RewardError(f"perplexity of a text of one token is not defined: {text[:60]!r}")
            found[i] = nll
        cut = sum(own.cut for own in forward)
        return Scored(-np.array(found, dtype=np.float64), cut=cut, recomputed=len(missing))

    def _forward(self, prompts: list[Prompt], completions: list[str]) -> list["TextNLL"]:
        if not prompts:
            return []
        from exptilt.models.causality import check_continues, words_of
        from exptilt.models.chat_template import rendered
        from exptilt.models.likelihood import text_nll
        from exptilt.models.loading import causal_model, load_tokenizer

        model, chat = causal_model(self.spec.model, self.device, self.spec.dtype), bool(self.spec.chat)
        tokenizer = load_tokenizer(self.spec.model)
        check_continues(model, words_of(tokenizer, model), self.device)
        starts = rendered(tokenizer, prompts, self.spec.template) if chat else prompts
        return text_nll(model, tokenizer, texts_of(starts, completions), self.device, special=not chat)
