"""Which reward a value's name means: the catalogue, the user's own models, files and packages.

A value is written [NAME=]SOURCE[#LABEL][:prob|:logprob]. SOURCE is a name of the catalogue, a
FILE.py:function, a name that an installed package registers in the entry point group
exptilt.rewards, or, with NAME=, a sequence classifier as a Hub id or a local folder.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, cast

from exptilt import demo
from exptilt.errors import ConfigError
from exptilt.models import reference
from exptilt.models.reference import ModelRef
from exptilt.rewards import labels
from exptilt.rewards.base import RewardSpec, Transform
from exptilt.rewards.registry import KINDS

GROUP: Final = "exptilt.rewards"
VALUE: Final = re.compile(
    r"(?:(?P<name>[\w.-]+)=)?(?P<source>[^=#]+?)(?:#(?P<label>[^:#]+))?(?::(?P<transform>prob|logprob))?"
)
FUNCTION: Final = re.compile(r"(?P<path>.+\.py):(?P<function>[A-Za-z_]\w*)")
COLUMNS: Final = frozenset(
    "prompt_id prompt_index prompt source completion generated sample_index draw_index seed n_tokens "
    "finish_reason logprob nll weight log_weight ess n max_weight khat log_z kl n_unique".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of the catalogue: its kind, its checkpoint, its text and its label."""

    kind: str
    source: str = ""
    pair: bool = False
    label: str = ""


CATALOGUE: Final[dict[str, Entry]] = {
    "humor": Entry(kind="classifier", source="mohameddhiab/humor-no-humor", label="1"),
    "positive": Entry(kind="classifier", source="lvwerra/distilbert-imdb", label="1"),
    "gpt2-helpful": Entry(kind="classifier", source="Ray2333/gpt2-large-helpful-reward_model", pair=True),
    "gpt2-harmless": Entry(kind="classifier", source="Ray2333/gpt2-large-harmless-reward_model", pair=True),
    "harmless": Entry(kind="classifier", source="OpenAssistant/reward-model-deberta-v3-large-v2"),
    "coherence": Entry(kind="coherence", source="princeton-nlp/sup-simcse-bert-base-uncased"),
    **{name: Entry(kind=name) for name, kind in KINDS.items() if kind.needs in ("rules", "base model")},
}
ALL: Final = ("humor", "gpt2-helpful", "gpt2-harmless", "diversity", "coherence", "perplexity")
KNOWN: Final = (
    f"{', '.join(CATALOGUE)}, FILE.py:function, NAME=MODEL (a Hub id or a local folder), "
    f"and all; each classifier also with #LABEL, :prob or :logprob behind it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A value as the user wrote it, in parts."""

    name: str
    source: str
    label: str
    transform: Transform

    @property
    def column(self) -> str:
        """The column that the value fills: what the user called it, or what names it best."""
        function = FUNCTION.fullmatch(self.source)
        plain = self.name or (function["function"] if function else self.source)
        shown = "" if self.name or not self.label else f"#{self.label}"
        return plain + shown + ("" if self.transform == "logit" else f":{self.transform}")


def parse(value: str) -> Asked:
    """The parts of `value`; ConfigError where it is not written as a value is."""
    found = VALUE.fullmatch(value)
    if not found:
        raise ConfigError(f"unknown value {value!r}: known are {KNOWN}")
    transform = cast(Transform, found["transform"] or "logit")
    return Asked(
        name=found["name"] or "", source=found["source"], label=found["label"] or "", transform=transform
    )


def column_of(value: str) -> str:
    """The column that `value` fills."""
    return parse(value).column


def check_name(value: str) -> None:
    """Raise ConfigError unless `value` names a reward that there may be."""
    asked = parse(value)
    entry = CATALOGUE.get(asked.source)
    has_labels = KINDS[entry.kind].has_labels if entry else _is_model(asked)
    if not has_labels:
        _check_source(value, asked.source)
    if not has_labels and (asked.label or asked.transform != "logit"):
        raise ConfigError(f"--value {value}: #LABEL, :prob and :logprob are for classifiers")
    if asked.column in COLUMNS:
        raise ConfigError(f"--value {value}: the tables have a column {asked.column!r} already")


def _check_source(value: str, source: str) -> None:
    function = FUNCTION.fullmatch(source)
    if function and not Path(function["path"]).is_file():
        raise ConfigError(f"--value {value}: there is no file {function['path']}")
    if not (function or source in CATALOGUE or _plugin(source)):
        raise ConfigError(f"unknown value {value!r}: known are {KNOWN}")


def _is_model(asked: Asked) -> bool:
    return bool(asked.name) and not FUNCTION.fullmatch(asked.source) and asked.source not in CATALOGUE


def _plugin(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def expand(values: Sequence[str], basemodel: str, data: str) -> list[str]:
    """`values` with `all` spelled out: what the demo has, else the research code's set for the data."""
    if list(values) != ["all"]:
        return list(values)
    if basemodel == "demo":
        return list(demo.REWARDS)
    return ["positive" if v == "humor" and data == "Imdb" else v for v in ALL]


def resolve(value: str, base: ModelRef, dtype: str, base_dtype: str, chat: str = "") -> RewardSpec:
    """The reward that `value` means beside base model `base`; ModelError where there is no such model.

    Reward models compute in `dtype`, the base model, where a value needs it, in `base_dtype`; `chat` is p0's.
    """
    asked = parse(value)
    if FUNCTION.fullmatch(asked.source) or _plugin(asked.source):
        name = asked.source.rpartition(":")[2]
        return RewardSpec(value=asked.column, kind="function", model=_code(asked), label=name)
    entry = CATALOGUE.get(asked.source, Entry(kind="classifier", source=asked.source))
    kind = KINDS[entry.kind]
    if kind.needs == "base model":
        return RewardSpec(value=asked.column, kind=entry.kind, model=base, dtype=base_dtype, chat=chat)
    if kind.needs == "rules":
        rules = ModelRef(name=entry.kind, source=entry.kind, revision=kind.version)
        return RewardSpec(value=asked.column, kind=entry.kind, model=rules)
    return _with_model(asked, entry, base, dtype)


def _with_model(asked: Asked, entry: Entry, base: ModelRef, dtype: str) -> RewardSpec:
    of_demo = base.name == "demo" and asked.source in demo.REWARDS
    source = str(demo.REWARDS[asked.source]) if of_demo else entry.source
    role = f"value {asked.column!r}: model"
    spec = RewardSpec(
        value=asked.column,
        kind=entry.kind,
        model=reference.resolve(asked.source if of_demo else source, source, role),
        pair=entry.pair,
        label=asked.label or entry.label,
        transform=asked.transform,
        dtype="float32" if of_demo else dtype,
    )
    if not KINDS[spec.kind].has_labels:
        return spec
    from exptilt.models.loading import config_of

    return labels.checked(spec, config_of(spec.model, role))


def _code(asked: Asked) -> ModelRef:
    """A function as a model: its file's digest, or its package's version, is the revision."""
    function = FUNCTION.fullmatch(asked.source)
    if function:
        text = Path(function["path"]).read_bytes()
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        source = f"{Path(function['path']).resolve()}:{function['function']}"
        return ModelRef(name=asked.source, source=source, revision=f"blake2b:{digest}")
    plugin: Any = _plugin(asked.source)
    package = f"{plugin.dist.name}-{plugin.dist.version}" if plugin.dist else plugin.value
    return ModelRef(name=asked.source, source=plugin.value, revision=package)
