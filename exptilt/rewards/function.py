"""The user's own reward: a Python function that returns one number for each sample that it is given.

It comes from a file (FILE.py:function) or from an installed package's entry point; being code that the
user named, it is run as it is. Data from storage is never executed. contract.py says how it is called.
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from operator import attrgetter
from types import ModuleType

import numpy as np

from exptilt.conversation import Prompt
from exptilt.errors import RewardError
from exptilt.rewards.base import RewardSpec, Scored
from exptilt.rewards.contract import USUAL, Contract, Function, contract_of
from exptilt.shared import shared
from exptilt.wording import counted, reason


class FunctionReward:
    """r(x, y) by a function; where it is of a group, one number for each of a prompt's samples."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec
        self.function, self.contract = _function(spec)

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward. Refuses a wrong count or what is not a number, by the value's name."""
        bound = self.contract.bound(prompts, completions)
        said = self.function(*bound.args, **bound.kwargs)
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


def by_contract(spec: RewardSpec, n: int) -> RewardSpec:
    """The spec of a function with what its parameters ask for.

    Args:
        spec: of a function.
        n: samples of each prompt that are scored together by a function of groups.

    Raises:
        RewardError: the function does not load, or its parameters fit no contract.
    """
    _, contract = _function(spec)
    takes = contract.takes if contract.takes != USUAL else ()
    return replace(spec, takes=takes, group=n if contract.is_of_group else None)


def _function(spec: RewardSpec) -> tuple[Function, Contract]:
    name = f"value {spec.value!r}: {spec.model.name}"
    try:
        place, _, path = spec.model.source.rpartition(":")
        function = attrgetter(path)(_module(place, spec.model.revision))
    except Exception as error:
        raise RewardError(f"{name} does not load: {reason(error)}") from error
    if not callable(function):
        raise RewardError(f"{name} is not a function")
    try:
        return function, contract_of(function)
    except (TypeError, ValueError) as error:
        raise RewardError(f"{name} {error}") from error


@shared
def _module(place: str, revision: str) -> ModuleType:
    """The module in a file or of that name, its code run once for each revision."""
    return _from_file(place) if place.endswith(".py") else importlib.import_module(place)


def _from_file(path: str) -> ModuleType:
    """The code of the file as it is: bytecode beside it counts as new for one of equal size and second."""
    loader = SourceFileLoader("exptilt_user_rewards", path)
    module = ModuleType(loader.name)
    module.__file__ = path
    exec(loader.source_to_code(loader.get_data(path), path), module.__dict__)
    return module
