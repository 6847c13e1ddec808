"""What a classifier's configuration says of its labels: which one is meant, and what its probability is."""

from dataclasses import replace
from typing import Any

from exptilt.errors import ModelError
from exptilt.rewards.base import RewardSpec


def checked(spec: RewardSpec, config: Any) -> RewardSpec:
    """`spec` with what `config` adds to its identity; ModelError where there is no such label or number."""
    number(spec, config)
    by_itself = spec.transform != "logit" and is_multi_label(spec, config) and config.num_labels > 1
    return replace(spec, multi_label=by_itself)


def is_multi_label(spec: RewardSpec, config: Any) -> bool:
    """Whether each label is true or false by itself and its probability the sigmoid of its logit; else one of
    the labels is true, and theirs are the softmax. This is the rule of transformers' pipeline.

    Raises ModelError where a probability is asked of a regression.
    """
    if config.problem_type == "regression" and spec.transform != "logit":
        raise ModelError(
            f"value {spec.value!r}: {spec.model.name} is a regression (problem_type in its config.json), "
            f"which has no probability; leave :{spec.transform} out"
        )
    return bool(config.problem_type == "multi_label_classification" or config.num_labels == 1)


def number(spec: RewardSpec, config: Any) -> int:
    """The column of the logits: as asked, by name or number; else the only one, or the second of two of which
    one is true. Raises ModelError, which names the labels, where that is none or not one."""
    found = _asked(spec.label, config) if spec.label else _usual(config)
    if len(found) == 1 and 0 <= min(found) < config.num_labels:
        return min(found)
    known = ", ".join(str(name) for _, name in sorted(config.id2label.items()))
    said = f"{spec.label!r} is none of them" if len(found) <= 1 else f"{spec.label!r} means several"
    raise ModelError(
        f"value {spec.value!r}: {spec.model.name} has the labels {known}; choose with #LABEL"
        + (f": {said}" if spec.label else "")
    )


def _asked(label: str, config: Any) -> set[int]:
    """The numbers of the labels called `label`, by either of the two tables; else the number that it is."""
    found = {int(i) for i, name in config.id2label.items() if str(name) == label}
    found |= {int(i) for name, i in (config.label2id or {}).items() if str(name) == label}
    return found or {int(i) for i in config.id2label if str(i) == label}


def _usual(config: Any) -> set[int]:
    if config.num_labels == 2:
        return {1} if config.problem_type in (None, "single_label_classification") else set()
    return {0} if config.num_labels == 1 else set()
