"""Every causal language model of the transformers library, built small with random weights."""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

CHARACTERS = string.ascii_letters + string.digits + "-"
VOCABULARY = len(CHARACTERS) + 1
LAYERS, HIDDEN, HEADS = 4, 32, 4
MAY_BE_NONE = frozenset(
    "eos_token_id pad_token_id head_dim num_key_value_heads moe_intermediate_size num_experts_per_tok".split()
)
MOST = 20_000_000  # parameters of a model that counts as small
FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "n_words": VOCABULARY,
    "hidden_size": HIDDEN,
    "d_model": HIDDEN,
    "n_embd": HIDDEN,
    "dim": HIDDEN,
    "emb_dim": HIDDEN,
    "word_embed_proj_dim": HIDDEN,
    "embedding_size": HIDDEN,
    "attention_hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "encoder_layers": LAYERS,
    "num_blocks": LAYERS,
    "num_mem_blocks": 1,
    "num_attention_heads": HEADS,
    "n_head": HEADS,
    "n_heads": HEADS,
    "num_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_attention_heads": HEADS,
    "num_decoder_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "attention_head_dim": 8,
    "attention_head_size": 8,
    "d_kv": 8,
    "kv_channels": 8,
    "d_head": 8,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "n_inner": 64,
    "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64,
    "d_inner": 64,
    "dff": 64,
    "ffn_hidden_size": 64,
    "intermediate_size_mlp": 64,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "dense_intermediate_size": 64,
    "expert_ffn_hidden_size": 16,
    "block_ff_dim": 64,
    "block_dim": HIDDEN,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "top_k_experts": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "zero_expert_num": 2,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "max_seq_len": 128,
    "max_sequence_length": 128,
    "original_max_position_embeddings": 128,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "qk_head_dim": 16,
    "o_lora_rank": 16,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 64,
    "sliding_window": 64,
    "sliding_window_size": 64,
    "attention_window_size": 64,
    "attention_chunk_size": 64,
    "rotary_dim": 4,
    "rotary_pct": 0.5,
    "global_rotary_dim": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_headdim": 8,
    "mamba_head_dim": 8,
    "mamba_num_heads": 8,
    "mamba_d_ssm": 64,
    "mamba_chunk_size": 16,
    "mamba_ngroups": 1,
    "state_size": 8,
    "time_step_rank": 4,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
    "expand": 2,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "lru_width": HIDDEN,
    "conv_dim": HIDDEN,
    "hidden_size_per_layer_input": 8,
    "altup_num_inputs": 2,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0,
    "n_mamba_heads": 1,
    "use_mamba_kernels": False,
    "conv_L_cache": 3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "unk_token_id": 0,
    "is_decoder": True,
    "adapter_rank": 8,
    "num_codebooks": 2,
}


OWN: dict[str, dict[str, Any]] = {  # what one family needs beside
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * (LAYERS // 2)},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * (LAYERS // 2)},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "xlnet": {"max_position_embeddings": None},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per character; token 0 is the end token."""
    vocabulary = {"<e>": 0, **{c: i + 1 for i, c in enumerate(CHARACTERS)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="-"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", pad_token="<e>")


def small_config(family: str, **changes: Any) -> Any:
    """The family's default configuration with small numbers in place of its large ones."""
    default = AutoConfig.for_model(family)
    given = {**_reduced(default), **OWN.get(family, {}), **changes}
    return type(default)(**{name: value for name, value in given.items() if value is not None})


def _reduced(config: Any) -> dict[str, Any]:
    given = {name: value for name, value in SMALL.items() if _may_set(config, name)}
    if "kv_lora_rank" in given:  # heads of latent attention share no keys
        given["num_key_value_heads"] = HEADS
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if inner is not None and name in ("text_config", "decoder", "llm_config", "language_config"):
            given[name] = {**_reduced(inner), "model_type": inner.model_type}
    return given


def _may_set(config: Any, name: str) -> bool:
    if name in getattr(config, "attribute_map", {}) or isinstance(
        getattr(type(config), name, None), property
    ):
        return False
    try:
        return getattr(config, name, None) is not None or (name in MAY_BE_NONE and hasattr(config, name))
    except RuntimeError:
        return False  # one per layer


def build(auto: Any, config: Any, folder: Path) -> str:
    """Save a small random model of `config` and its tokenizer; ValueError where it isn't small."""
    with torch.device("meta"):
        size = sum(p.numel() for p in auto.from_config(config).parameters())
    if size > MOST:
        raise ValueError(f"{size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    for name, weight in model.named_parameters():  # so that the law is not nearly uniform
        if weight.dim() == 2 and "norm" not in name:
            weight.data.mul_(4)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def causal_model(family: str, folder: Path, **changes: Any) -> str:
    """A small random causal language model of `family`."""
    return build(AutoModelForCausalLM, small_config(family, **changes), folder)


def classifier(family: str, folder: Path, **changes: Any) -> str:
    """A small random sequence classifier of `family`."""
    return build(AutoModelForSequenceClassification, small_config(family, num_labels=2, **changes), folder)
