"""Small random checkpoints of real model classes, saved as a Hub would serve them."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

LETTERS = "abcdef "


def letters_tokenizer(end: str = "<e>") -> PreTrainedTokenizerFast:
    """One token per letter; token 0 is the end token, there is no padding token."""
    vocabulary = {end: 0, **{c: i + 1 for i, c in enumerate(LETTERS)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end)


def causal(folder: Path, kind: str, positions: int = 64) -> str:
    """A random causal language model of a kind (gpt2, llama, opt, bloom) over single letters."""
    torch.manual_seed(0)
    size = len(LETTERS) + 1
    common = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=positions, **common)
        model = GPT2LMHeadModel(config)
    elif kind == "opt":
        config = OPTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=64,
            word_embed_proj_dim=32,
            max_position_embeddings=positions,
            pad_token_id=1,
            **common,
        )
        model = OPTForCausalLM(config)
    elif kind == "bloom":
        config = BloomConfig(hidden_size=32, n_layer=2, n_head=2, **common)
        model = BloomForCausalLM(config)
    else:
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            **common,
        )
        model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():  # so that the law is not nearly uniform
        if "norm" not in name and "ln_" not in name:
            weight.data.mul_(6)
    return save(folder, model)


def classifier(folder: Path, labels: int = 2) -> str:
    """A random BERT sequence classifier over single letters."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=labels,
    )
    return save(folder, BertForSequenceClassification(config))


def alter(folder: str, name: str, change: Callable[[torch.Tensor], object]) -> str:
    """Let `change` work on one weight of the checkpoint in `folder`."""
    file = f"{folder}/model.safetensors"
    weights = load_file(file)
    change(weights[name])
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def save(folder: Path, model) -> str:
    model.eval().save_pretrained(folder)
    letters_tokenizer().save_pretrained(folder)
    return str(folder)
