"""Layers of a packed model computed in fewer passes over memory: a GELU behind a linear layer, gated
feed-forward layers, RMS normalisation.

A layer is replaced only where both give the same numbers for random ones, but for the rounding left out.
"""

from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers.activations import GELUTanh

from exptilt.models.packed_linear import GELU, SILU, Packed

Tensor = torch.Tensor
SAME: Final = 0.01  # mean distance as a share of the spread; bfloat16 rounds by 0.002
GATED: Final = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class GatedMLP(nn.Module):
    """down(f(gate(x)) · up(x)) for x [..., K] and f GELU or SiLU, each product rounded once."""

    def __init__(self, layer: Any, after: tuple[str, str]) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = layer.gate_proj, layer.up_proj, layer.down_proj
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """Three operations by oneDNN."""
        down: Tensor = self.down_proj(self.up_proj.times(x, self.gate_proj.then(x, self.after)))
        return down


class OnePassRMSNorm(nn.Module):
    """x / sqrt(mean x² + eps) · scale, for x [..., K]: what layer normalisation makes of (x, -x), whose mean
    is zero, in one pass. `weight` is the layer's own, whose type models ask for."""

    def __init__(self, weight: Tensor, scale: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.scale, self.eps = weight, torch.cat([scale, scale]), eps

    def forward(self, x: Tensor) -> Tensor:
        """Rounded once."""
        both = torch.cat([x, -x], -1)
        return layer_norm(both, both.shape[-1:], self.scale, None, self.eps)[..., : x.shape[-1]]


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
        layer.after, module.act = GELU, nn.Identity()


def _replacements(module: Any) -> list[nn.Module]:
    """What may compute the same; a norm without a weight stays, whose width is not known."""
    children = dict(module.named_children())
    if set(children) == GATED and all(isinstance(children[name], Packed) for name in GATED - {"act_fn"}):
        return [GatedMLP(module, SILU), GatedMLP(module, GELU)]
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(eps, float):
        return []
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter):
        return []
    scale = weight.detach().float()
    return [OnePassRMSNorm(weight, kept, eps) for kept in (scale, 1 + scale)]


def _agree(module: Any, replacement: nn.Module) -> bool:
    """Whether both give the same numbers."""
    width = module.gate_proj.inputs if isinstance(replacement, GatedMLP) else module.weight.numel()
    x = torch.randn(8, width, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    exact, found = module(x).float(), replacement(x).float()
    return bool((found - exact).abs().mean() <= SAME * exact.std())
