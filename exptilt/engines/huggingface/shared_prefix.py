"""Attention of many samples to one prompt: its keys are read once for all of them, and a row keeps only
what it adds.

Shapes: B prompts, N rows of each, R = B·N, H query heads, G key heads, D their width, T prompt positions
(left-padded), S slots for new tokens. Which attention a model has now is known by a private name alone,
config._attn_implementation: that of transformers 5.24.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from transformers import AttentionInterface, Cache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

Tensor = torch.Tensor
NAME: Final = "exptilt_fork"
BEYOND: Final = ("sinks", "position_bias", "alibi", "head_mask")
SHARED: Final = (DynamicLayer, DynamicSlidingWindowLayer)
SLOTS: Final = {"cpu": 16, "cuda": 64}  # how many a row's cache has at first, and grows by at least
GROWTH: Final = 8  # it grows by a part of what it has, so that long rows are seldom copied
AT_HAND: Final = ("cpu",)  # where it costs nothing to know the slot; index_copy_ takes five times as long
_cache: ContextVar["ForkedCache"] = ContextVar("cache")


class ForkedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values: [B, G, T, D] of the prompts, of which a layer with a window has the last
    alone, and [R, G, S, D] of the rows' own tokens, the next of which goes to the slot `at` [1]."""

    def __init__(self, prefill: Any, rows: int, at: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.prompt_keys: Tensor = prefill.keys
        self.prompt_values: Tensor = prefill.values
        slots = SLOTS[prefill.keys.device.type]
        self.own_keys, self.own_values = (_slots(x, rows, slots) for x in (prefill.keys, prefill.values))
        self.at, self.seen = at, int(prefill.get_seq_length())
        self.window: int | None = getattr(prefill, "sliding_window", None)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the prompts came first."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take one more token per row, [R, G, 1, D]; gives the slots."""
        _put(key_states, self.own_keys, self.at)
        _put(value_states, self.own_values, self.at)
        return self.own_keys, self.own_values

    def grow(self, slots: int) -> None:
        """Add slots."""
        self.own_keys, self.own_values = (
            torch.cat([x, _slots(x, len(x), slots)], 2) for x in (self.own_keys, self.own_values)
        )

    def get_seq_length(self) -> int:
        """Tokens of a prompt; how many of a row's own there are is on the device."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the mask."""
        return self.seen + query_length, 0

    def get_max_length(self) -> int:
        """None: slots are added."""
        return -1

    def select(self, prompts: Tensor, rows: Tensor) -> None:
        """Keep some prompts and some rows."""
        self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]
        self.own_keys, self.own_values = self.own_keys[rows], self.own_values[rows]


class ForkedCache(Cache):
    """The cache of a prefill of B prompts, `mask` [B, T] true where there is a token, for R rows.

    `at` [1] is the slot of the rows' next token, and `hidden` [B, 1, 1, 1, T + S] true where a row sees
    nothing: both lie on the device and are changed in place, so that all steps are the same operations.
    """

    def __init__(self, prefill: Cache, mask: Tensor, n: int) -> None:
        self.at = torch.full((1,), -1, device=mask.device)
        self.forked = [ForkedLayer(layer, len(mask) * n, self.at) for layer in prefill.layers]
        super().__init__(layers=list(self.forked))
        self.hidden = _with_slots((mask == 0)[:, None, None, None], SLOTS[mask.device.type])
        self.width, self.used = mask.shape[1], 0

    def advance(self) -> None:
        """Go on to the next token's slot."""
        if self.width + self.used == self.hidden.shape[-1]:
            slots = max(SLOTS[self.hidden.device.type], self.used // GROWTH)
            self.hidden = _with_slots(self.hidden, slots)
            for layer in self.forked:
                layer.grow(slots)
        self.used += 1
        self.at += 1
        self.hidden.index_fill_(-1, self.width + self.at, 0)

    def select(self, prompts: Tensor, rows: Tensor) -> None:
        """Keep some prompts, and of each equally many rows, in the prompts' order."""
        self.hidden = self.hidden[prompts]
        for layer in self.forked:
            layer.select(prompts, rows)


def _slots(like: Tensor, rows: int, slots: int) -> Tensor:
    return like.new_zeros(rows, like.shape[1], slots, like.shape[3])


def _put(token: Tensor, slots: Tensor, at: Tensor) -> None:
    """`token` [R, G, 1, D] into the slot `at`."""
    if at.device.type in AT_HAND:
        slots.narrow(2, int(at), 1).copy_(token)
    else:
        slots.index_copy_(2, at, token)


def _with_slots(hidden: Tensor, slots: int) -> Tensor:
    return torch.cat([hidden, hidden.new_ones(*hidden.shape[:-1], slots)], -1)


def can_fork(model: Any, prefill: Cache) -> bool:
    """Whether the model's attention is the plain one, over all that was seen or the last of it."""
    plain = all(type(layer) in SHARED for layer in prefill.layers)
    return plain and bool(model.is_backend_compatible())


@contextmanager
def forked(model: Any, cache: ForkedCache) -> Iterator[None]:
    """Let `model` attend through `cache` while the block runs."""
    before, token = model.config._attn_implementation, _cache.set(cache)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _cache.reset(token)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """softmax(q Kᵀ · scaling) V over a row's prompt and its own tokens.

    Args:
        module: the layer's attention, whose `layer_idx` finds its cache.
        query: [R, H, 1, D].
        key: the rows' own keys [R, G, S, D].
        value: their values.
        scaling: 1 / √D if None.
        softcap: the most that a score's tanh is stretched to.
        sliding_window: how many of the last tokens are seen, the query's own among them.
        s_aux: a score per query head [H] that takes part in the softmax and has no value.
        others: what else a model says.

    Returns:
        [R, 1, H, D], and no weights.

    Raises:
        ValueError: where the model asks for more than that.
    """
    cache = _cache.get()
    layer = cache.forked[module.layer_idx]
    if any(others.get(name) is not None for name in BEYOND) or layer.window not in (None, sliding_window):
        raise ValueError("this model's attention is not the plain one")
    rows, width = len(query), query.shape[-1]
    prompts, _, t, _ = layer.prompt_keys.shape
    scaled = query * (width**-0.5 if scaling is None else scaling)
    grouped = scaled.reshape(rows, key.shape[1], -1, width)
    shared = _by_prompt(grouped, prompts) @ layer.prompt_keys.transpose(-1, -2)
    own = grouped @ key.transpose(-1, -2)
    scores = torch.cat([_by_row(shared, rows), own.view(prompts, -1, *own.shape[1:])], -1)
    if softcap is not None:
        scores = softcap * (scores.float() / softcap).tanh()
    scores.masked_fill_(_hidden(cache, t, sliding_window), -torch.inf)
    p = _softmax(scores, s_aux).to(query.dtype).flatten(0, 1)
    out, more = _by_prompt(p[..., :t], prompts) @ layer.prompt_values, p[..., t:] @ value
    out = _by_row(out, rows) + more.view(prompts, -1, *more.shape[1:])
    return out.reshape(rows, 1, query.shape[1], -1), None


def _hidden(cache: ForkedCache, t: int, window: int | None) -> Tensor:
    """Where the last `t` of the prompts' tokens and the slots [B, 1, 1, 1, t + S] are not to be seen."""
    hidden = cache.hidden[..., cache.width - t :]
    if window is None or window >= cache.hidden.shape[-1]:
        return hidden
    return hidden | (torch.arange(hidden.shape[-1], device=hidden.device) <= cache.at + (t - window))


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Over the last of `scores` [B, N, G, K, X], and a sink for each of the G·K heads, which is left out.
    What is added up is float32."""
    if sinks is None:
        return scores.softmax(-1)
    column = sinks.to(scores.dtype).view(*scores.shape[2:4], 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], -1).softmax(-1)[..., :-1]


def _by_prompt(x: Tensor, prompts: int) -> Tensor:
    """[R, G, K, X] as [B, G, N·K, X]."""
    return x.view(prompts, -1, *x.shape[1:]).transpose(1, 2).flatten(2, 3)


def _by_row(x: Tensor, rows: int) -> Tensor:
    """[B, G, N·K, X] as [B, N, G, K, X]."""
    prompts, heads, _, width = x.shape
    return x.view(prompts, heads, rows // prompts, -1, width).transpose(1, 2)


AttentionInterface.register(NAME, attend)
