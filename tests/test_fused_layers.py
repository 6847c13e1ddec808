"""Fused layers give a model's own numbers, rounded less often."""

import copy

import pytest
import torch
from families import causal_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    Phi3Config,
    Qwen3Config,
)

from exptilt.models.fused_layers import GatedMLP, OnePassRMSNorm, fuse
from exptilt.models.packed_linear import Joined, Packed, pack

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
READERS = ["falcon_mamba", "gpt2", "jamba", "longcat_flash", "mamba", "mamba2", "nemotron_h", "opt", "qwen3"]
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
    parts = {type(part) for part in fused.modules()}
    assert OnePassRMSNorm in parts
    assert (GatedMLP in parts, Joined in parts) == (config is not Phi3Config,) * 2
    copies = [part for part in fused.modules() if isinstance(part, Packed) and "weight" in vars(part)]
    assert not copies


@packs
@pytest.mark.parametrize("family", READERS)
def test_a_model_that_reads_its_weights_itself_computes_as_before(family, tmp_path):
    folder = causal_model(family, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokens = torch.arange(1, 25).view(2, 12)
    with torch.no_grad():
        exact = copy.deepcopy(plain).float()(tokens).logits
        before, packed = plain(tokens).logits.float(), pack(copy.deepcopy(plain))
        assert torch.equal(packed(tokens).logits.float(), before)
        after = fuse(packed)(tokens).logits.float()
    assert (after - exact).abs().mean() <= 1.25 * (before - exact).abs().mean()


@packs
@pytest.mark.parametrize("bias", [True, False])
def test_joined_layers_give_each_its_own_numbers_whoever_is_asked(bias):
    torch.manual_seed(0)
    layers = [nn.Linear(64, size, bias=bias).bfloat16() for size in (64, 16, 32)]
    joined = Joined(layers)
    inputs = [torch.randn(5, 1, 64).bfloat16() for _ in range(2)]
    for place, x in [(0, 0), (1, 0), (2, 0), (1, 1), (1, 1), (0, 0), (2, 1), (0, 1)]:
        assert torch.equal(joined(inputs[x], place), layers[place](inputs[x]))


@packs
def test_a_packed_layer_still_has_its_weight():
    layer = nn.Linear(48, 40).bfloat16()
    assert torch.equal(Packed(layer.weight, layer.bias).weight, layer.weight)


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
