"""The weights of an adapter's files, read without unpickling, and what their shapes say of the model.

An adapter of peft names the weights of its base behind PREFIX; what it saves whole (a classifier's head, the
embeddings of new tokens) has the base's own names there.
"""

import copy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification

from exptilt.errors import ModelError
from exptilt.models.adapter_config import WEIGHTS
from exptilt.models.reference import ModelRef

PREFIX: Final = "base_model.model."
TRIED: Final = (11, 13)  # numbers of labels by which the weights of a head are known
Shapes = dict[str, tuple[int, ...]]


def shapes(adapter: ModelRef) -> Shapes:
    """The shape of each weight in the adapter's files, by the base's name where it is one of the base's.

    Raises ModelError where they cannot be read, or not without unpickling more than tensors.
    """
    folder = adapter.adapter_folder
    try:
        found = _safetensors(folder / WEIGHTS[0]) if (folder / WEIGHTS[0]).is_file() else _bin(folder)
    except UnpicklingError:
        raise ModelError(
            f"adapter {adapter.name!r}: its {WEIGHTS[1]} holds more than tensors, which is never unpickled: "
            f"save it as {WEIGHTS[0]}"
        ) from None
    except Exception as error:
        raise ModelError(f"adapter {adapter.name!r}: its weights can't be read ({error})") from error
    return {name.removeprefix(PREFIX): shape for name, shape in found.items()}


def _safetensors(path: Path) -> Shapes:
    with safe_open(path, framework="pt") as weights:
        return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118


def _bin(folder: Path) -> Shapes:
    weights = torch.load(folder / WEIGHTS[1], map_location="cpu", weights_only=True)
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def own_weights(adapters: tuple[ModelRef, ...]) -> set[str]:
    """The names of the base's weights that the adapters hold whole."""
    return {name for adapter in adapters for name in shapes(adapter)}


def set_labels(config: Any, adapters: tuple[ModelRef, ...]) -> None:
    """Give a classifier's configuration as many labels as the last adapter's own head has, if one has one;
    their names are those of that adapter's config.json, where it says as many."""
    for adapter in adapters:
        count = _labels(config, shapes(adapter))
        if count:
            _name_labels(config, count, adapter)


def _labels(config: Any, found: Shapes) -> int:
    """The number of labels of a head among the weights `found`, 0 without one."""
    first, second = (_head(config, count) for count in TRIED)
    head = [name for name, shape in first.items() if second.get(name) != shape]
    return next((found[name][0] for name in head if name in found), 0)


def _head(config: Any, labels: int) -> Shapes:
    """The shapes of a classifier's weights, for that many labels."""
    other = copy.deepcopy(config)
    other.num_labels = labels
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(other)  # type: ignore[no-untyped-call]
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def _name_labels(config: Any, count: int, adapter: ModelRef) -> None:
    folder = adapter.adapter_folder
    own = type(config).from_pretrained(folder) if (folder / "config.json").is_file() else config
    if own.num_labels == count:
        config.id2label, config.label2id, config.problem_type = own.id2label, own.label2id, own.problem_type
    else:
        config.num_labels = count
