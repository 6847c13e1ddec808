"""Linear layers for a CPU that multiplies bfloat16: their weights lie as the multiplication wants them,
packed once and not at every call, and what follows one is computed before its result is rounded.

torch.ops.mkldnn has no public name for these products: the private ones are those of torch 2.13.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

NOTHING: Final = ("none", "")  # what follows a product: oneDNN's name of the function, and of its formula
GELU: Final = ("gelu", "tanh")
SILU: Final = ("swish", "")
OF_ONE_INPUT: Final = ("q_proj", "k_proj", "v_proj")


class Packed(nn.Module):
    """y = x Wᵀ + b, for x [..., K], from a weight [N, K] and a bias [N] or None; `after` it, GELU or SiLU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias = None if bias is None else bias.detach()
        self.inputs, self.after = weight.shape[1], NOTHING

    @cached_property
    def weight(self) -> torch.Tensor:
        """As it was, a copy that is made where a model multiplies by itself or asks for the type."""
        dense: torch.Tensor = self.packed.to_dense()
        return dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One operation by oneDNN."""
        return self.then(x, self.after)

    def then(self, x: torch.Tensor, after: tuple[str, str]) -> torch.Tensor:
        """`after` of y."""
        name, formula = after
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, name, [], formula)
        return y

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """y · factor [..., N]."""
        product = torch.ops.mkldnn._linear_pointwise.binary
        y: torch.Tensor = product(x, factor, self.packed, self.bias, "mul")
        return y


class Joined(nn.Module):
    """Layers of one input as one product, computed when the first of them is asked, for all of them."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        weights: list[torch.Tensor] = [layer.weight for layer in layers]
        biases: list[torch.Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        self.product = Packed(torch.cat(weights), torch.cat(biases) if biases else None)
        self.sizes = [layer.out_features for layer in layers]
        self.x: torch.Tensor | None = None
        self.waiting: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """What the layer at `place` gives for x [..., K]."""
        if x is not self.x or place not in self.waiting:
            self.x, self.waiting = x, dict(enumerate(self.product(x).split(self.sizes, -1)))
        y = self.waiting.pop(place)
        if not self.waiting:
            self.x = None
        return y


class Part(nn.Module):
    """One of the layers that are joined."""

    def __init__(self, joined: Joined, place: int) -> None:
        super().__init__()
        self.joined, self.place = joined, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Its part of the product. No layer's input is changed in place before all have it: no model that
        does so could be trained."""
        y: torch.Tensor = self.joined(x, self.place)
        return y


def pack(model: Any) -> Any:
    """`model` with its linear layers packed, where it lies on a CPU in bfloat16 and oneDNN is there; the
    numbers are the same to the bit."""
    fits = model.device.type == "cpu" and model.dtype == torch.bfloat16
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if fits and available and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        _pack(model)
    return model


def _pack(module: nn.Module) -> None:
    _join(module)
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Packed(child.weight, child.bias))
        elif isinstance(child, Conv1D):
            setattr(module, name, Packed(child.weight.t(), child.bias))
        else:
            _pack(child)


def _join(module: nn.Module) -> None:
    """Join the layers that make queries, keys and values."""
    children = dict(module.named_children())
    layers = [child for name in OF_ONE_INPUT if type(child := children.get(name)) is nn.Linear]
    if len(layers) < len(OF_ONE_INPUT) or len({(x.in_features, x.bias is None) for x in layers}) > 1:
        return
    joined = Joined(layers)
    for place, name in enumerate(OF_ONE_INPUT):
        setattr(module, name, Part(joined, place))
