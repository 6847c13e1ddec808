"""Layers of a packed model computed in fewer passes over memory: a GELU behind a linear layer, and RMS
normalisation, replaced only where both give the same numbers for random ones, but for the rounding left out.
"""

from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers.activations import GELUTanh

from exptilt.models.packed_linear import Packed

Tensor = torch.Tensor
SAME: Final = 0.01  # mean distance as a share of the spread; bfloat16 rounds by 0.002


class OnePassRMSNorm(nn.Module):
    """x / sqrt(mean x² + eps) · weight, for x [..., K]: what layer normalisation makes of (x, -x), whose mean
    is zero, in one pass."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = torch.cat([weight, weight]), eps

    def forward(self, x: Tensor) -> Tensor:
        """Rounded once."""
        both = torch.cat([x, -x], -1)
        return layer_norm(both, both.shape[-1:], self.weight, None, self.eps)[..., : x.shape[-1]]


def fuse(model: Any) -> Any:
    """`model` with the layers replaced that can be, where its linear layers are packed."""
    if any(isinstance(module, Packed) for module in model.modules()):
        with torch.inference_mode(), torch.random.fork_rng():
            _fuse(model)
    return model


def _fuse(module: nn.Module) -> None:
    _with_gelu(module)
    for name, child in module.named_children():
        replacement = next((new for new in _replacements(child) if _agree(child, new)), None)
        if replacement is None:
            _fuse(child)
        else:
            setattr(module, name, replacement)


def _with_gelu(module: Any) -> None:
    """Let GPT-2's first layer compute the tanh GELU behind it; other forms gain nothing."""
    layer = getattr(module, "c_fc", None)
    if isinstance(layer, Packed) and isinstance(getattr(module, "act", None), GELUTanh):
        layer.gelu, module.act = True, nn.Identity()


def _replacements(module: Any) -> list[nn.Module]:
    """What may compute the same; a norm without a weight stays."""
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(eps, float) or weight is None:
        return []
    kept = weight.detach().float()
    return [OnePassRMSNorm(kept, eps), OnePassRMSNorm(1 + kept, eps)]


def _agree(module: Any, replacement: nn.Module) -> bool:
    """Whether both give the same numbers."""
    x = torch.randn(8, module.weight.numel(), generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    exact, found = module(x).float(), replacement(x).float()
    return bool((found - exact).abs().mean() <= SAME * exact.std())
