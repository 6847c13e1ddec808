"""One step per token: a causal model fed its next tokens, the prompts' cache shared by their samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import torch

from exptilt.engines.huggingface.captured_step import CapturedStep
from exptilt.engines.huggingface.copied_cache import with_slots
from exptilt.engines.huggingface.shared_prefix import ForkedCache, can_fork, forked
from exptilt.models.forward import accepted

Tensor = torch.Tensor
BY_STEPS: Final = ("captured", "shared", "copied")  # how a prompt's cache serves its samples; see ways


class Stepper:
    """Feeds a causal model its next tokens, keeping cache, mask and positions in step."""

    def __init__(self, model: Any, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.cache: Any = None
        self.step: CapturedStep | None = None

    @classmethod
    def prefill(cls, model: Any, tokens: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """A stepper behind `tokens` [B, T], and their logits [B, T, V]."""
        stepper = cls(model, mask)
        logits = stepper.forward(tokens, stepper.positions)
        stepper.positions = stepper.positions[:, -1:]
        return stepper, logits

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Logits behind each of `tokens`, whose keys and values the cache takes."""
        extra = accepted(self.model, position_ids=positions)
        mask = None if isinstance(self.cache, ForkedCache) else self.mask
        out = self.model(input_ids=tokens, attention_mask=mask, cache=self.cache, use_cache=True, **extra)
        self.cache = out.cache
        logits: Tensor = out.logits
        return logits

    @contextmanager
    def fork(self, n: int, tokens: int, kept: str) -> Iterator[None]:
        """Let every prompt's cache serve n rows of at most `tokens` more tokens while the block runs: shared,
        by captured steps or not, or copied to each of them. Raises ValueError where the model can't share."""
        before, self.mask = self.mask, self.mask.repeat_interleave(n, 0)
        self.positions = self.positions.repeat_interleave(n, 0)
        if kept == "copied":
            self.cache.batch_repeat_interleave(n)
            with_slots(self.cache, tokens)
            yield
            return
        if not can_fork(self.model, self.cache):
            raise ValueError("this model's attention is not the plain one")
        self.cache = ForkedCache(self.cache, before, n)
        self.step = CapturedStep(self.forward) if kept == "captured" else None
        with forked(self.model, self.cache):
            yield

    def select(self, prompts: Tensor, rows: Tensor) -> None:
        """Keep some prompts, and of each equally many rows."""
        self.positions = self.positions[rows]
        if isinstance(self.cache, ForkedCache):
            self.cache.select(prompts, rows)
        else:
            self.mask = self.mask[rows]
            self.cache.batch_select_indices(rows)

    def next_logits(self, token: Tensor) -> Tensor:
        """Logits [R, V] after `token` [R]; by a captured step they hold until the next one."""
        self.positions = self.positions + 1
        if not isinstance(self.cache, ForkedCache):
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
            return self.forward(token[:, None], self.positions)[:, -1]
        self.cache.advance()
        if self.step is None:
            return self.forward(token[:, None], self.positions)[:, -1]
        return self.step(token[:, None], self.positions, self.cache.hidden.shape)[:, -1]
