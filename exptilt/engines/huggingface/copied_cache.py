"""Copied caches with room for the tokens to come, so that a token does not cost a copy of all before it.

Shapes: R rows, G key heads, T positions, D their width.
"""

from typing import Any, Final

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

Tensor = torch.Tensor
SLOTS: Final = 32  # how many positions a layer grows by


class SlottedLayer(DynamicLayer):
    """Keys and values [R, G, T, D] of one layer that grow by slots; all of its tokens are attended to."""

    def __init__(self, layer: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(layer.keys, layer.values)
        self.keys, self.values = layer.keys, layer.values
        self.is_sliding = layer.is_sliding
        self._key_slots, self._value_slots = layer.keys, layer.values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take new tokens [R, G, 1, D]; gives all of them."""
        assert self.keys is not None
        assert self.values is not None
        self._key_slots, keys = _put(self._key_slots, self.keys, key_states)
        self._value_slots, values = _put(self._value_slots, self.values, value_states)
        self.keys, self.values = keys, values
        return keys, values


def _put(slots: Tensor, used: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The slots with `new` behind `used`, and the view of them that is used then."""
    begin, end = used.shape[2], used.shape[2] + new.shape[2]
    if used.data_ptr() != slots.data_ptr() or len(used) != len(slots) or end > slots.shape[2]:
        slots = used.new_empty(*used.shape[:2], end + SLOTS, used.shape[3])
        slots[:, :, :begin] = used
    slots[:, :, begin:end] = new
    return slots, slots[:, :, :end]


def with_slots(cache: Cache, tokens: int) -> None:
    """Let plain layers of `cache` grow by slots, and those with a window that `tokens` more do not fill."""
    cache.layers = [SlottedLayer(layer) if _is_plain(layer, tokens) else layer for layer in cache.layers]


def _is_plain(layer: Any, tokens: int) -> bool:
    if type(layer) is DynamicSlidingWindowLayer:
        return layer.get_seq_length() + tokens < layer.sliding_window
    return type(layer) is DynamicLayer and layer.is_initialized
