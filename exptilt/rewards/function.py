"""The user's own reward: a Python function over prompts and completions, one number per pair."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exptilt.errors import RewardError
from exptilt.rewards.base import Rewards, RewardSpec


class FunctionReward:
    """r(x, y) by `function(prompts, completions) -> list of numbers` from the user's file."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec
        self.function = _load(spec)

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Rewards:
        """See base.Reward. Refuses a wrong count or what is not a number, by the value's name."""
        said = self.function(list(prompts), list(completions))
        try:
            rewards = np.asarray(said, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise RewardError(f"value {self.spec.value!r} gave what is not numbers: {error}") from error
        if rewards.shape != (len(prompts),):
            raise RewardError(
                f"value {self.spec.value!r} gave shape {rewards.shape} for {len(prompts)} samples"
            )
        return rewards


def _load(spec: RewardSpec) -> Callable[[list[str], list[str]], Any]:
    path = spec.model.source
    try:
        module_spec = importlib.util.spec_from_file_location("exptilt_user_rewards", path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        function: Callable[[list[str], list[str]], Any] = getattr(module, spec.value)
    except Exception as error:
        raise RewardError(f"value {spec.value!r}: {path} does not load: {error}") from error
    return function
