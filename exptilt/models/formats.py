"""Models in another format than that of the transformers library: refused by name, with what to do."""

import re
from collections.abc import Iterable
from typing import Any, Final

from exptilt.errors import ModelError

WEIGHTS: Final = re.compile(r"(?!adapter_|openvino_|training_args)[^/]+\.(safetensors|bin)(\.index\.json)?")
OTHERS: Final = (
    (re.compile(r".*\.gguf", re.I), "GGUF"),
    (re.compile(r"(.*/)?(weights.*|.*mlx.*)\.npz", re.I), "MLX"),
    (re.compile(r".*\.onnx", re.I), "ONNX"),
    (re.compile(r"(.*/)?openvino_.*\.(xml|bin)", re.I), "OpenVINO"),
    (re.compile(r"(.*/)?tf_model.*\.h5|.*\.tflite", re.I), "TensorFlow"),
    (re.compile(r".*\.msgpack(\.index\.json)?", re.I), "Flax"),
    (re.compile(r".*\.(mlmodel|mlpackage(/.*)?)", re.I), "Core ML"),
    (re.compile(r"(.*/)?consolidated.*\.pth", re.I), "Meta's own"),
)
SERVE: Final = "serve it and pass http://HOST:PORT/v1#MODEL"
ADVICE: Final = {
    "GGUF": "convert it (AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=FILE), then save_pretrained; "
    f"the tokenizer likewise), or {SERVE} (llama-server of llama.cpp)",
    "MLX": f"pass the checkpoint that it was made from, or {SERVE} (mlx_lm.server)",
}
USUAL: Final = "pass the checkpoint that it was made from"


def weights(names: Iterable[str]) -> list[str]:
    """Those of a folder's or a repository's file names that are weights of the transformers library."""
    return sorted(name for name in names if WEIGHTS.fullmatch(name))


def check(names: Iterable[str], said: str) -> None:
    """Raise ModelError, which begins with `said`, where `names` are files of other formats only."""
    listed = sorted(names)
    if weights(listed):
        return
    for pattern, kind in OTHERS:
        found = [name for name in listed if pattern.fullmatch(name)]
        if found:
            raise _refused(said, kind, found[0])


def check_file(name: str, is_there: bool, said: str) -> None:
    """Raise ModelError, which begins with `said`, where `name` is one file and not a folder."""
    check([name], said)
    if is_there:
        raise ModelError(f"{said} is a file: pass the folder that it lies in")


def check_quantisation(config: Any, said: str) -> None:
    """Raise ModelError, which begins with `said`, where a checkpoint is quantised in a way that this machine
    lacks a package or a device for, by its configuration."""
    quantised = getattr(config, "quantization_config", None)
    method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
    if not method and (quantised or getattr(config, "quantization", None)):
        raise _refused(said, "MLX", "quantization in config.json")
    if not quantised:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        AutoHfQuantizer.from_config(quantised, pre_quantized=True).validate_environment(device_map=None)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{said} is quantised ({method}) and cannot be loaded here: {reason}") from error


def _refused(said: str, kind: str, found: str) -> ModelError:
    return ModelError(f"{said} is a model in {kind} format ({found}), not a checkpoint of the transformers "
                      f"library: {ADVICE.get(kind, USUAL)}")  # fmt: skip
