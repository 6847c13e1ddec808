"""Batches of texts of like length under a budget of tokens, halved for good when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from exptilt.models.device_queue import in_turn
from exptilt.models.memory import is_exhausted
from exptilt.run import current

R = TypeVar("R")


class Budget:
    """How many tokens (padding included) may go through a model at once, and on which device."""

    __slots__ = ("device", "tokens")

    def __init__(self, tokens: int, device: str = "cpu") -> None:
        self.tokens, self.device = tokens, device

    def halve(self) -> None:
        """Remember that there was too little memory."""
        self.tokens = max(self.tokens // 2, 1)


def batches(lengths: Sequence[int], budget: Budget) -> Iterator[list[int]]:
    """Places of `lengths`, sorted by length, in batches of at most budget.tokens tokens (or one text)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[place] > budget.tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def in_batches(
    lengths: Sequence[int], budget: Budget, forward: Callable[[list[int]], Sequence[R]]
) -> list[R]:
    """As halving, but the whole work takes its turn on the device.

    Args:
        lengths: in tokens [S].
        budget: what fits in memory at once.
        forward: gives one result per place that it is handed.

    Returns:
        The results [S] in the order of `lengths`.

    Raises:
        Stopped: when the run is asked to stop.
    """
    return in_turn(budget.device, lambda: halving(lengths, budget, forward))


def halving(lengths: Sequence[int], budget: Budget, forward: Callable[[list[int]], Sequence[R]]) -> list[R]:
    """What `forward` gives for every place; where memory runs out the batch is split and the budget halved.

    Args:
        lengths: in tokens [S]; those of like length share a batch.
        budget: what fits in memory at once; it stays halved.
        forward: gives one result per place that it is handed.

    Returns:
        The results [S] in the order of `lengths`.

    Raises:
        OutOfMemoryError: torch's, where one text alone does not fit.
    """
    found: dict[int, R] = {}
    for batch in batches(lengths, budget):
        found.update(_forward(batch, budget, forward))
    return [found[place] for place in range(len(lengths))]


def _forward(batch: list[int], budget: Budget, forward: Callable[[list[int]], Sequence[R]]) -> dict[int, R]:
    current().check()
    try:
        return dict(zip(batch, forward(batch), strict=True))
    except Exception as error:
        if len(batch) == 1 or not is_exhausted(error):
            raise
    budget.halve()
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _forward(batch[:middle], budget, forward) | _forward(batch[middle:], budget, forward)


def left_pad(ids: list[list[int]], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask [B, T], each row padded on the left by its own first token: NaN of another
    would reach it behind the mask, since 0 · NaN is NaN."""
    width = max(map(len, ids))
    tokens = [row[:1] * (width - len(row)) + row for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
