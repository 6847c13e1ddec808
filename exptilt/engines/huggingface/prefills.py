"""Prompts that went through a model before anything is drawn behind them, kept where more is to be drawn.

Shapes: B prompts in the batch, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from exptilt.conversation import Prompt
from exptilt.engines.huggingface.incremental import Stepper
from exptilt.engines.huggingface.token_choice import prompt_likelihood
from exptilt.models.batching import left_pad

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """What a model made of a batch of prompts: where it stands behind them, the logits [B, V] there, and
    the raw log-likelihood of each prompt's tokens after its first, nats [B]."""

    stepper: Stepper
    logits: Tensor
    raw: Tensor

    @classmethod
    def of(cls, model: Any, ids: list[list[int]], device: torch.device) -> Self:
        """The prompts `ids` [B][*] through `model`."""
        tokens, mask = left_pad(ids, str(device))
        stepper, logits = Stepper.prefill(model, tokens, mask)
        return cls(stepper=stepper, logits=logits[:, -1].clone(), raw=prompt_likelihood(logits, tokens, mask))

    @property
    def nbytes(self) -> int:
        """Of its keys and values."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.stepper.cache.layers)


class Prefills:
    """Those of a model's last batches, by their prompts' ids; moves come back to them again and again."""

    def __init__(self, most: float) -> None:
        """They hold at most `most` bytes."""
        self.most, self.kept = most, dict[tuple[tuple[int, ...], ...], Prefill]()

    def of(self, model: Any, ids: list[list[int]], device: torch.device) -> Prefill:
        """As Prefill.of. Only for ways that leave a prefill's cache as it is."""
        key = tuple(map(tuple, ids))
        found = self.kept.pop(key, None) or Prefill.of(model, ids, device)
        self.kept[key] = found
        while sum(each.nbytes for each in self.kept.values()) > self.most:
            del self.kept[next(iter(self.kept))]
        return found


def groups(prompts: Sequence[Prompt]) -> Iterable[list[list[int]]]:
    """The places [P][N] of equal prompts, for several N: powers of two that add up to how many there are."""
    equal, found = defaultdict[Prompt, list[int]](list), defaultdict[int, list[list[int]]](list)
    for place, prompt in enumerate(prompts):
        equal[prompt].append(place)
    for places in equal.values():
        first = 0
        for size in (1 << bit for bit in range(len(places).bit_length()) if len(places) >> bit & 1):
            found[size].append(places[first : first + size])
            first += size
    return found.values()
