"""The contract of a reward, and the catalogue: which model and which text a value's name means.

A reward is one finite float64 per sample: r_v(x, y). Everything that defines it is in its spec, and
so in the content key of what it scored.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from exptilt import demo, models
from exptilt.errors import ConfigError
from exptilt.models import ModelRef

Rewards = NDArray[np.float64]

CONVERSATION: Final = ("\n\nHuman: ", " \n\nAssistant:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of the catalogue: its kind, its checkpoint, and how prompt and completion are put."""

    kind: str
    source: str = ""
    pair: bool = False
    label: int = 0


CATALOGUE: Final[dict[str, Entry]] = {
    "humor": Entry(kind="classifier", source="mohameddhiab/humor-no-humor", label=1),
    "positive": Entry(kind="classifier", source="lvwerra/distilbert-imdb", label=1),
    "gpt2-helpful": Entry(kind="classifier", source="Ray2333/gpt2-large-helpful-reward_model", pair=True),
    "gpt2-harmless": Entry(kind="classifier", source="Ray2333/gpt2-large-harmless-reward_model", pair=True),
    "harmless": Entry(kind="classifier", source="OpenAssistant/reward-model-deberta-v3-large-v2"),
    "perplexity": Entry(kind="perplexity"),
}
ALL: Final = ("humor", "gpt2-helpful", "gpt2-harmless", "perplexity")
FUNCTION: Final = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSpec:
    """What defines a reward: the value's name, the kind, the model, the text and the number taken."""

    value: str
    kind: str
    model: ModelRef
    pair: bool = False
    label: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the reward and nothing else."""
        return {**self.model.identity, "kind": self.kind, "pair": self.pair, "label": self.label}

    @property
    def described(self) -> dict[str, Any]:
        """The spec as the manifest records it, without this machine's paths."""
        model = {"name": self.model.name, **self.model.identity}
        return {**asdict(self), "model": model}


class Reward(Protocol):
    """Scores samples of one value."""

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Rewards:
        """One number per sample, all lists [S]; `nlls` are the samples' own, where known."""
        ...


def label_of(value: str) -> str:
    """The name of the column that `value` fills: humor, or brevity for rewards.py:brevity."""
    function = FUNCTION.fullmatch(value)
    return function["name"] if function else value


def check_name(value: str) -> None:
    """Raise ConfigError unless `value` names a reward."""
    function = FUNCTION.fullmatch(value)
    if function:
        if not Path(function["path"]).is_file():
            raise ConfigError(f"--value {value}: there is no file {function['path']}")
    elif value not in CATALOGUE:
        known = ", ".join(CATALOGUE)
        raise ConfigError(f"unknown value {value!r}: known are {known}, FILE.py:function and all")


def expand(values: Sequence[str], basemodel: str, data: str) -> list[str]:
    """`values` with `all` spelled out: what the demo has, else the catalogue's set for the data."""
    if list(values) != ["all"]:
        return list(values)
    if basemodel == "demo":
        return list(demo.REWARDS)
    return ["positive" if v == "humor" and data == "Imdb" else v for v in ALL]


def resolve(value: str, base: ModelRef) -> RewardSpec:
    """The reward that `value` means beside base model `base`; ModelError where it cannot be had."""
    function = FUNCTION.fullmatch(value)
    if function:
        return _function(value, function["path"], function["name"])
    entry = CATALOGUE[value]
    if entry.kind == "perplexity":
        return RewardSpec(value=value, kind="perplexity", model=base)
    source = entry.source
    if base.name == "demo" and value in demo.REWARDS:
        source = str(demo.REWARDS[value])
    model = models.resolve(value if source != entry.source else source, source, f"value {value!r}:")
    return RewardSpec(value=value, kind=entry.kind, model=model, pair=entry.pair, label=entry.label)


def _function(value: str, path: str, name: str) -> RewardSpec:
    digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    model = ModelRef(name=value, source=str(Path(path).resolve()), revision=f"blake2b:{digest}")
    return RewardSpec(value=name, kind="function", model=model)


_loading = Lock()


def load(spec: RewardSpec, device: str, dtype: str) -> Reward:
    """The reward of `spec` on `device`, its model loaded once per process."""
    with _loading:
        return _load(spec, device, dtype)


@lru_cache(maxsize=32)
def _load(spec: RewardSpec, device: str, dtype: str) -> Reward:
    if spec.kind == "function":
        from exptilt.rewards.function import FunctionReward

        return FunctionReward(spec)
    if spec.kind == "perplexity":
        from exptilt.rewards.perplexity import PerplexityReward

        return PerplexityReward(spec)
    from exptilt.rewards.classifier import ClassifierReward

    return ClassifierReward(spec, device, dtype)
