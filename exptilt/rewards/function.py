"""The user's own reward: a Python function over prompts and completions, one number per pair.

It comes from a file (FILE.py:function) or from an installed package's entry point; being code that the
user named, it is run as it is. Data from storage is never executed.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exptilt.conversation import Prompt, text_of
from exptilt.errors import RewardError
from exptilt.rewards.base import RewardSpec, Scored
from exptilt.wording import counted

Function = Callable[[list[str], list[str]], Any]


class FunctionReward:
    """r(x, y) by `function(prompts, completions) -> numbers`."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec
        self.function = _load(spec)

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward. Refuses a wrong count or what is not a number, by the value's name."""
        said = self.function([text_of(prompt) for prompt in prompts], list(completions))
        try:
            rewards = np.asarray(said)
            numbers = rewards.astype(np.float64, casting="same_kind" if rewards.size else "unsafe")
        except (TypeError, ValueError) as error:
            kind = "text" if isinstance(said, list) and any(isinstance(s, str) for s in said) else type(said)
            raise RewardError(f"value {self.spec.value!r} gave what is not numbers: {kind}") from error
        if numbers.shape != (len(prompts),):
            raise RewardError(
                f"value {self.spec.value!r} gave shape {numbers.shape} for {counted(len(prompts), 'sample')}"
            )
        return Scored(numbers)


def _load(spec: RewardSpec) -> Function:
    place, _, name = spec.model.source.rpartition(":")
    try:
        module = _from_file(place) if place.endswith(".py") else importlib.import_module(place)
        function: Function = getattr(module, name)
    except Exception as error:
        raise RewardError(f"value {spec.value!r}: {spec.model.name} does not load: {error}") from error
    if not callable(function):
        raise RewardError(f"value {spec.value!r}: {spec.model.name} is not a function")
    return function


def _from_file(path: str) -> Any:
    found = importlib.util.spec_from_file_location("exptilt_user_rewards", path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
