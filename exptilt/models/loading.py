"""Loading checkpoints of the transformers library: configuration, weights, tokenizer.

Remote code is never trusted; a checkpoint whose weights are not all there is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils import logging as hf_logging

from exptilt.errors import ModelError
from exptilt.models.adapter_weights import own_weights, set_labels
from exptilt.models.adapters import merged
from exptilt.models.device_queue import apart
from exptilt.models.formats import check_quantisation
from exptilt.models.reference import ModelRef
from exptilt.models.tokenization import PROBE, encode, positions
from exptilt.once import once
from exptilt.run import current
from exptilt.shared import shared
from exptilt.wording import reason

hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
_loading = Lock()  # two threads that load at once leave weights without memory ("meta tensors") behind


TOKENIZER: Final = "tokenizer_config.json"
NOT_THE_LIBRARYS: Final = {"subfolder": "none"}  # where adapters lie that transformers would apply by itself


def _options(ref: ModelRef) -> dict[str, Any]:
    return {} if ref.is_local else {"revision": ref.revision}


def load_model(auto: Any, ref: ModelRef, role: str, device: str, dtype: str) -> Any:
    """The model at `ref`, its adapters merged, in evaluation mode.

    Args:
        auto: transformers' class that loads it.
        ref: which model, at which revision.
        role: what an error calls it, such as "base model" or a value's name.
        device: where it goes.
        dtype: the type that it computes in.

    Raises:
        ModelError: where it does not load, an adapter does not fit, or a weight is missing from the
            checkpoint (it would be random).
    """
    try:
        with _loading:
            model = apart(lambda: _ready(auto, ref, role, device, dtype))
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{role} {ref.name!r} does not fit on {device}: {error}") from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{role} {ref.name!r} does not load: {reason(error)}") from error
    if device.startswith("cuda"):
        current().owned("memory that torch keeps of its GPUs", _given_back, lambda _: True)
    return model


def _ready(auto: Any, ref: ModelRef, role: str, device: str, dtype: str) -> Any:
    """The model on its device, with its layers as they compute fastest; what that needs is not loaded for a
    tokenizer."""
    from exptilt.models.fused_layers import fuse
    from exptilt.models.packed_linear import pack

    return fuse(pack(_read(auto, ref, role, getattr(torch, dtype)).to(device).eval()))


@contextmanager
def _given_back() -> Iterator[None]:
    """Give memory back to the GPUs where the block ends, which torch else keeps for itself."""
    yield
    with suppress(RuntimeError):  # of a GPU that failed
        torch.cuda.empty_cache()


def _read(auto: Any, ref: ModelRef, role: str, dtype: torch.dtype) -> Any:
    """The model on the CPU; adapters are merged in float32, and the result is cast as a checkpoint's is."""
    model, info = auto.from_pretrained(
        ref.source,
        config=_config(auto, ref),
        dtype=torch.float32 if ref.adapters else dtype,
        output_loading_info=True,
        adapter_kwargs=NOT_THE_LIBRARYS,
        ignore_mismatched_sizes=bool(ref.adapters),
        **_options(ref),
    )
    lacking = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    missing = sorted(lacking - own_weights(ref.adapters))
    if missing:
        raise ModelError(f"{role} {ref.name!r} lacks weights: {', '.join(missing[:3])}")
    return _with_adapters(model, ref, dtype) if ref.adapters else model


def _with_adapters(model: Any, ref: ModelRef, dtype: torch.dtype) -> Any:
    model = merged(model.eval(), ref.adapters)
    if dtype != torch.float32:
        model = type(model).from_pretrained(
            None, config=model.config, state_dict=model.state_dict(), dtype=dtype
        )
    model.name_or_path = ref.name
    return model


def config_of(ref: ModelRef, role: str = "base model") -> Any:
    """The configuration of the model at `ref`.

    Raises ModelError, which names `role`, where there is none, or the model is quantised and cannot be
    loaded here or have an adapter merged into it.
    """
    try:
        config = AutoConfig.from_pretrained(ref.source, **_options(ref))
    except Exception as error:
        raise ModelError(f"{role} {ref.name!r} does not load: {reason(error)}") from error
    if ref.adapters and getattr(config, "quantization_config", None):
        raise ModelError(
            f"{role} {ref.name!r}: its base {ref.source} is quantised, and no adapter merges into that: "
            "name the base that is not, as BASE+ADAPTER"
        )
    check_quantisation(config, f"{role} {ref.name!r}")
    return config


def classifier_config(ref: ModelRef, role: str) -> Any:
    """As config_of, with the labels that an adapter's own head has."""
    config = config_of(ref, role)
    set_labels(config, ref.adapters)
    return config


def _config(auto: Any, ref: ModelRef) -> Any:
    """The model's configuration, its GELU by the tanh formula computed in one pass and not in eight."""
    of = classifier_config if auto is AutoModelForSequenceClassification else config_of
    config = of(ref, "model")
    for name in ("activation_function", "hidden_act"):
        if getattr(config, name, None) == "gelu_new":
            setattr(config, name, "gelu_pytorch_tanh")
    return config


@shared
def causal_model(ref: ModelRef, device: str, dtype: str) -> Any:
    """The causal language model at `ref`, loaded once for drawing and for likelihoods.

    Its own generation configuration is put aside: a run says itself how it samples.

    Args:
        ref: which model, at which revision.
        device: where it goes.
        dtype: the type that it computes in.

    Raises:
        ModelError: as load_model and check_causal.
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


@shared
def load_tokenizer(ref: ModelRef) -> Any:
    """The tokenizer at `ref`, which runs and threads share: it must not be changed.

    It is used once here, since the library drops at the first use what the file says of cutting and padding.
    """
    tokenizer = own_tokenizer(ref)
    encode(tokenizer, [PROBE])
    return tokenizer


def own_tokenizer(ref: ModelRef, **settings: str) -> Any:
    """A tokenizer at `ref`, the last adapter's that has one, with `settings` of its own; it must not be used
    in two threads at once."""
    folders = [adapter.adapter_folder for adapter in ref.adapters]
    own = [str(folder) for folder in folders if (folder / TOKENIZER).is_file()]
    source, options = (own[-1], {}) if own else (ref.source, _options(ref))
    try:
        with _loading:
            return AutoTokenizer.from_pretrained(source, **options, **settings)
    except Exception as error:
        raise ModelError(f"tokenizer of {ref.name!r} does not load: {reason(error)}") from error


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
            f"base model {ref.name!r}: its {GENERATION_CONFIG_NAME} can't be read ({reason(error)}); "
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
