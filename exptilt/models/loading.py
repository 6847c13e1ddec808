"""Loading checkpoints of the transformers library: configuration, weights, tokenizer.

Remote code is never trusted; a checkpoint whose weights are not all there is refused.
"""

from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils import logging as hf_logging

from exptilt.errors import ModelError
from exptilt.models.packed_linear import fuse, pack
from exptilt.models.reference import ModelRef
from exptilt.models.tokenization import PROBE, encode, positions
from exptilt.once import once

hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
_loading = Lock()  # two threads that load at once leave weights without memory ("meta tensors") behind


def _options(ref: ModelRef) -> dict[str, Any]:
    return {} if ref.is_local else {"revision": ref.revision}


def load_model(auto: Any, ref: ModelRef, role: str, device: str, dtype: str) -> Any:
    """The model of class `auto` at `ref`, in evaluation mode on `device`.

    Raises ModelError, which names `role` and the model, where it does not load or a weight is
    missing from the checkpoint (it would be random).
    """
    try:
        with _loading:
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
        raise ModelError(f"{role} {ref.name!r} does not load: {_reason(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(f"{role} {ref.name!r} lacks weights: {', '.join(missing[:3])}")
    return fuse(pack(model))


def _reason(error: BaseException) -> str:
    """What `error` says, in one line."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def config_of(ref: ModelRef, role: str = "base model") -> Any:
    """The configuration of the model at `ref`; ModelError, which names `role`, where there is none."""
    try:
        return AutoConfig.from_pretrained(ref.source, **_options(ref))
    except Exception as error:
        raise ModelError(f"{role} {ref.name!r} does not load: {_reason(error)}") from error


def _config(ref: ModelRef) -> Any:
    """The model's configuration, its GELU by the tanh formula computed in one pass and not in eight."""
    config = AutoConfig.from_pretrained(ref.source, **_options(ref))
    for name in ("activation_function", "hidden_act"):
        if getattr(config, name, None) == "gelu_new":
            setattr(config, name, "gelu_pytorch_tanh")
    return config


@once
def causal_model(ref: ModelRef, device: str, dtype: str) -> Any:
    """The causal language model at `ref`, loaded once per process for drawing and for likelihoods.

    Its own generation configuration is put aside: a run says itself how it samples. ModelError as in
    load_model and check_causal.
    """
    check_causal(ref)
    model = load_model(AutoModelForCausalLM, ref, "base model", device, dtype)
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    return model


def check_causal(ref: ModelRef) -> None:
    """Raise ModelError where `ref` is an encoder-decoder model, or the decoder of one without its encoder."""
    config = config_of(ref)
    if config.is_encoder_decoder or getattr(type(config), "is_encoder_decoder", False):
        kind = next(iter(config.architectures or []), config.model_type)
        raise ModelError(
            f"base model {ref.name!r} is not a causal language model but an encoder-decoder model, or a part "
            f"of one ({kind}): choose a model that continues text"
        )


@once
def load_tokenizer(ref: ModelRef) -> Any:
    """The tokenizer at `ref`, which all of the process share: nobody may change it.

    It is used once here, since the library drops at the first use what the file says of cutting and padding.
    """
    tokenizer = own_tokenizer(ref)
    encode(tokenizer, [PROBE])
    return tokenizer


def own_tokenizer(ref: ModelRef, **settings: str) -> Any:
    """A tokenizer at `ref` with `settings` of its own; it must not be used in two threads at once."""
    try:
        with _loading:
            return AutoTokenizer.from_pretrained(ref.source, **_options(ref), **settings)
    except Exception as error:
        raise ModelError(f"tokenizer of {ref.name!r} does not load: {_reason(error)}") from error


def generation_config(ref: ModelRef) -> Any:
    """What the checkpoint says of drawing: its generation_config.json, else its config.json.

    Raises ModelError where the first is there and can't be read.
    """
    try:
        return GenerationConfig.from_pretrained(ref.source, **_options(ref))
    except Exception as error:
        if isinstance(error, OSError) and not Path(ref.source, GENERATION_CONFIG_NAME).exists():
            return GenerationConfig.from_model_config(config_of(ref))
        raise ModelError(
            f"base model {ref.name!r}: its {GENERATION_CONFIG_NAME} can't be read ({_reason(error)}); "
            "mend or remove the file"
        ) from error


@once
def hidden_size(ref: ModelRef) -> int | None:
    """Numbers of a hidden state of the model at `ref`, or None where it does not say."""
    size = getattr(config_of(ref).get_text_config(), "hidden_size", None)
    return int(size) if size else None


@once
def context_length(ref: ModelRef) -> int | None:
    """The most tokens that the model at `ref` takes, or None where it does not say."""
    return positions(config_of(ref))
