"""Logits of texts' last tokens under a causal classifier, the beginning that texts share computed once.

The samples of one prompt begin alike: their shared tokens go through the model once, and the tokens of
their own attend to that cache. The numbers are those of each text alone.
"""

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

import torch
from transformers import DynamicCache

from exptilt.models.batching import Budget, halving, in_batches, left_pad
from exptilt.models.forward import accepted

Tensor = torch.Tensor
WORTH: Final = 4  # a shorter beginning is not worth a cache
BATCHES: Final = 8  # of rows, sorted by length, that some prompts' beginnings are kept for
Rows = Sequence[list[int]]
Alike = tuple[list[int], int]  # places of rows that begin alike, and how many tokens they share


def last_logits(model: Any, rows: Rows, keys: Sequence[Hashable], budget: Budget) -> list[list[float]]:
    """Logits at the last token of every row; what rows of one prompt share goes through the model once.

    Args:
        model: a causal classifier.
        rows: token ids [S][*].
        keys: [S]; rows of equal key (those of one prompt) may begin alike.
        budget: what fits in memory at once.

    Returns:
        [S][labels].
    """
    sets = _together(keys)
    lengths = [shared_length([rows[i] for i in places]) for places in sets]
    alone = [i for places, length in zip(sets, lengths, strict=True) if not length for i in places]
    alike = [(places, length) for places, length in zip(sets, lengths, strict=True) if length]
    places = [*alone, *(i for places, _ in alike for i in places)]
    logits = [*_own(model, [rows[i] for i in alone], budget), *_shared(model, rows, alike, budget)]
    found = dict(zip(places, logits, strict=True))
    return [found[i] for i in range(len(rows))]


def _own(model: Any, rows: Rows, budget: Budget) -> list[list[float]]:
    """Logits of rows that share no beginning."""

    def forward(at: list[int]) -> list[list[float]]:
        return _logits(model, [rows[i] for i in at], budget.device)

    return in_batches([len(row) for row in rows], budget, forward)


def _shared(model: Any, rows: Rows, alike: list[Alike], budget: Budget) -> Iterator[list[float]]:
    """Logits of rows that begin alike, in the order of `alike`."""

    def forward(at: list[int]) -> list[list[list[float]]]:
        return _continued(model, rows, [alike[k] for k in at], budget)

    lengths = [sum(len(rows[i]) for i in places) for places, _ in alike]
    found = in_batches(lengths, Budget(BATCHES * budget.tokens, budget.device), forward)
    return itertools.chain.from_iterable(found)


def _together(keys: Sequence[Hashable]) -> list[list[int]]:
    """Places of equal keys."""
    found: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())


def shared_length(rows: Rows) -> int:
    """How many first tokens all of `rows` share, each keeping one of its own; 0 if not worth a cache."""
    if len(rows) == 1:
        return 0
    pairs = zip(min(rows), max(rows), strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    length = min(same, min(map(len, rows)) - 1)
    return length if length >= WORTH else 0


def _continued(model: Any, rows: Rows, alike: list[Alike], budget: Budget) -> list[list[list[float]]]:
    """Logits of each prompt's rows, their beginning from one cache."""
    starts = [rows[places[0]][:length] for places, length in alike]
    beginnings = _Beginnings(model, starts, budget.device)
    own = [rows[i][length:] for places, length in alike for i in places]
    of = [k for k, (places, _) in enumerate(alike) for _ in places]

    def forward(at: list[int]) -> list[list[float]]:
        return _logits(model, [own[j] for j in at], budget.device, beginnings, [of[j] for j in at])

    logits = iter(halving([len(row) for row in own], budget, forward))
    return [list(itertools.islice(logits, len(places))) for places, _ in alike]


class _Beginnings:
    """The cache of some beginnings of texts, padded on the left."""

    def __init__(self, model: Any, rows: Rows, device: str) -> None:
        tokens, self.mask = left_pad(list(rows), device)
        self.lengths = self.mask.sum(-1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.layers = _run(model, tokens, self.mask, positions, DynamicCache()).cache.layers

    def select(self, places: Tensor) -> DynamicCache:
        """The beginnings at `places` [B], one per row of a batch."""
        cache = DynamicCache()
        for number, layer in enumerate(self.layers):
            cache.update(layer.keys[places], layer.values[places], number)
        return cache


def _logits(
    model: Any, rows: Rows, device: str, beginnings: _Beginnings | None = None, of: Sequence[int] = ()
) -> list[list[float]]:
    """Logits [B][labels] of the last tokens of a batch, each row behind the beginning that is its own."""
    last = torch.tensor([len(row) - 1 for row in rows], device=device)
    width = int(last.max()) + 1
    tokens = torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows], device=device)
    steps = torch.arange(width, device=device)
    mask, positions, cache = (steps <= last[:, None]).long(), steps.expand(len(rows), -1), None
    if beginnings:
        places = torch.tensor(of, device=device)
        mask = torch.cat([beginnings.mask[places], mask], dim=1)
        positions, cache = positions + beginnings.lengths[places, None], beginnings.select(places)
    hidden = _run(model, tokens, mask, positions, cache).last_hidden_state
    numbers: list[list[float]] = model.score(hidden[torch.arange(len(rows)), last]).double().tolist()
    return numbers


def _run(model: Any, tokens: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None) -> Any:
    inner = model.base_model
    extra = accepted(inner, attention_mask=mask, position_ids=positions, use_cache=cache is not None)
    return inner(input_ids=tokens, **extra, **({} if cache is None else {"cache": cache}))
