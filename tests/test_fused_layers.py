"""Fused layers give a model's own numbers, rounded less often."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    Phi3Config,
    Qwen3Config,
)

from exptilt.models.fused_layers import OnePassRMSNorm, fuse
from exptilt.models.packed_linear import pack

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 200,
    "pad_token_id": 0,
}
TOKENS = torch.arange(1, 121).view(4, 30)
packs = pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU packs nothing")


def model_of(config):
    """In bfloat16, its normalisation weights not all one."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**SMALL)).eval()
    for weight in model.parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight, weight.detach().mean().item(), 0.3)
    return model.bfloat16()


def error(model, exact):
    with torch.no_grad():
        return (model(TOKENS).logits.float() - exact).abs().mean().item()


@packs
@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config, GemmaConfig, Gemma2Config, Phi3Config])
def test_a_fused_model_is_as_near_to_float32_as_it_was(config):
    plain = model_of(config)
    fused = fuse(pack(copy.deepcopy(plain)))
    with torch.no_grad():
        exact = copy.deepcopy(plain).float()(TOKENS).logits
    assert error(fused, exact) <= 1.05 * error(plain, exact)
    assert any(isinstance(part, OnePassRMSNorm) for part in fused.modules())


@packs
def test_a_layer_that_computes_something_else_stays():
    class OtherRMSNorm(nn.Module):
        """Looks like one, and adds a half."""

        def __init__(self):
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(64)), 1e-6

        def forward(self, x):
            return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps).to(x.dtype) + 0.5

    model = model_of(LlamaConfig)
    model.model.norm = OtherRMSNorm().bfloat16()
    assert isinstance(fuse(pack(model)).model.norm, OtherRMSNorm)


@packs
def test_a_norm_without_a_weight_stays():
    class BareRMSNorm(nn.Module):
        eps = 1e-6

        def forward(self, x):
            return x

    model = model_of(LlamaConfig)
    model.model.norm = BareRMSNorm()
    assert isinstance(fuse(pack(model)).model.norm, BareRMSNorm)


def test_float32_keeps_its_layers():
    model = model_of(LlamaConfig).float()
    before = [type(part) for part in model.modules()]
    assert [type(part) for part in fuse(pack(model)).modules()] == before
