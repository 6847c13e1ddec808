"""Linear layers for a CPU that multiplies bfloat16: their weights lie as the multiplication wants them,
packed once and not at every call, and GPT-2's GELU behind one is computed before the result is rounded.

torch.ops.mkldnn has no public name for these products: the private ones are those of torch 2.13.
"""

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D


class Packed(nn.Module):
    """y = x Wᵀ + b, for x [..., K], from a weight [N, K] and a bias [N] or None; with `gelu`, GELU(y) by the
    tanh formula."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias = None if bias is None else bias.detach()
        self.gelu = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One operation by oneDNN."""
        after, form = ("gelu", "tanh") if self.gelu else ("none", "")
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, after, [], form)
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
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Packed(child.weight, child.bias))
        elif isinstance(child, Conv1D):
            setattr(module, name, Packed(child.weight.t(), child.bias))
        else:
            _pack(child)
