"""Linear layers for a CPU that multiplies bfloat16: their weights lie as the multiplication wants them,
packed once and not at every call, and what follows one is computed before its result is rounded.

torch.ops.mkldnn has no public name for these products: the private ones are those of torch 2.13.
"""

from typing import Any, Final

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

NOTHING: Final = ("none", "")  # what follows a product: oneDNN's name of the function, and of its formula
GELU: Final = ("gelu", "tanh")
SILU: Final = ("swish", "")


class Packed(nn.Module):
    """y = x Wᵀ + b, for x [..., K], from a weight [N, K] and a bias [N] or None; `after` it, GELU or SiLU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias = None if bias is None else bias.detach()
        self.inputs, self.after = weight.shape[1], NOTHING

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One operation by oneDNN."""
        return self.then(x, self.after)

    def then(self, x: torch.Tensor, after: tuple[str, str]) -> torch.Tensor:
        """`after` of y."""
        name, formula = after
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], formula)
        return y

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """y · factor [..., N]."""
        product = torch.ops.mkldnn._linear_pointwise.binary
        y: torch.Tensor = product(x, factor, self.weight, self.bias, "mul")
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
