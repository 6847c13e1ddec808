"""One step per token: a causal model fed its next tokens, the prompts' cache shared by their samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch

from exptilt.engines.fork import ForkedCache, can_fork, forked
from exptilt.engines.forward import accepted
from exptilt.engines.slots import with_slots

Tensor = torch.Tensor


def left_pad(ids: list[list[int]], pad: int | None, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, T], padded on the left by `pad`; without one, each row by its own
    first token, since NaN of another would reach it behind the mask: 0 · NaN is NaN."""
    width = max(map(len, ids))
    tokens = [[row[0] if pad is None else pad] * (width - len(row)) + row for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


class Stepper:
    """Feeds a causal model its next tokens, keeping cache, mask and positions in step."""

    def __init__(self, model: Any, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.cache: Any = None

    @classmethod
    def prefill(cls, model: Any, tokens: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """A stepper behind `tokens` [B, T], and their logits [B, T, V]."""
        stepper = cls(model, mask)
        logits = stepper._forward(tokens, stepper.positions)
        stepper.positions = stepper.positions[:, -1:]
        return stepper, logits

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        extra = accepted(self.model, position_ids=positions)
        out = self.model(
            input_ids=tokens, attention_mask=self.mask, cache=self.cache, use_cache=True, **extra
        )
        self.cache = out.cache
        logits: Tensor = out.logits
        return logits

    @contextmanager
    def fork(self, n: int, tokens: int, shared: bool) -> Iterator[None]:
        """Let every prompt's cache serve n rows of at most `tokens` more tokens while the block runs:
        `shared`, or copied to each of them. Raises ValueError where the model can't share it."""
        before, self.mask = self.mask, self.mask.repeat_interleave(n, 0)
        self.positions = self.positions.repeat_interleave(n, 0)
        if shared:
            if not can_fork(self.model, self.cache):
                raise ValueError("this model's attention is not the plain one")
            self.cache = ForkedCache(self.cache, before, n)
            with forked(self.model, self.cache):
                yield
        else:
            self.cache.batch_repeat_interleave(n)
            with_slots(self.cache, tokens)
            yield

    def select(self, prompts: Tensor, rows: Tensor) -> None:
        """Keep some prompts, and of each equally many rows."""
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        if isinstance(self.cache, ForkedCache):
            self.cache.select(prompts, rows)
        else:
            self.cache.batch_select_indices(rows)

    def next_logits(self, token: Tensor) -> Tensor:
        """Logits [R, V] after `token` [R]."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
        self.positions = self.positions + 1
        return self._forward(token[:, None], self.positions)[:, -1]
