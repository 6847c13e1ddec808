"""Loading checkpoints of the transformers library: weights, tokenizer, context length.

Remote code is never trusted; a checkpoint whose weights are not all there is refused.
"""

import os
from functools import lru_cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from exptilt.engines.packed import fuse, pack
from exptilt.errors import ModelError
from exptilt.models import ModelRef

hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _options(ref: ModelRef) -> dict[str, Any]:
    return {} if ref.is_local else {"revision": ref.revision}


def load_model(auto: Any, ref: ModelRef, role: str, device: str, dtype: str) -> Any:
    """The model of class `auto` at `ref`, in evaluation mode on `device`.

    Raises ModelError, which names `role` and the model, where it does not load or a weight is
    missing from the checkpoint (it would be random).
    """
    try:
        model, info = auto.from_pretrained(
            ref.source,
            config=_config(ref),
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            **_options(ref),
        )
        model = model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{role} {ref.name!r} does not fit on {device}: {error}") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{role} {ref.name!r} does not load: {reason}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(f"{role} {ref.name!r} lacks weights: {', '.join(missing[:3])}")
    return fuse(pack(model))


def _config(ref: ModelRef) -> Any:
    """The model's configuration, its GELU by the tanh formula computed in one pass and not in eight."""
    config = AutoConfig.from_pretrained(ref.source, **_options(ref))
    for name in ("activation_function", "hidden_act"):
        if getattr(config, name, None) == "gelu_new":
            setattr(config, name, "gelu_pytorch_tanh")
    return config


def load_config(ref: ModelRef, role: str) -> Any:
    """The model's configuration alone; ModelError, which names `role` and model, where it does not load."""
    try:
        return _config(ref)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{role} {ref.name!r} does not load: {reason}") from error


@lru_cache(maxsize=16)
def causal_model(ref: ModelRef, device: str, dtype: str) -> Any:
    """The causal language model at `ref`, loaded once per process for drawing and for likelihoods."""
    return load_model(AutoModelForCausalLM, ref, "base model", device, dtype)


@lru_cache(maxsize=32)
def load_tokenizer(ref: ModelRef) -> Any:
    """The tokenizer at `ref`."""
    try:
        return AutoTokenizer.from_pretrained(ref.source, **_options(ref))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"tokenizer of {ref.name!r} does not load: {reason}") from error


@lru_cache(maxsize=32)
def hidden_size(ref: ModelRef) -> int:
    """Numbers of a hidden state of the model at `ref`."""
    return int(AutoConfig.from_pretrained(ref.source, **_options(ref)).get_text_config().hidden_size)


@lru_cache(maxsize=32)
def context_length(ref: ModelRef) -> int | None:
    """The most positions that the model at `ref` takes, or None where it does not say."""
    config = AutoConfig.from_pretrained(ref.source, **_options(ref)).get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


def encode(tokenizer: Any, texts: list[str], special: bool = True) -> list[list[int]]:
    """Token ids of each text, with the tokenizer's own special tokens unless the text has them already."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"]
    return ids
