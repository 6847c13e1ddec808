"""The rewards of texts that are in no entry of samples: all values at once, an ensemble from its members."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from exptilt import rewards
from exptilt.conversation import prompt_of
from exptilt.engines.base import Sample
from exptilt.errors import RewardError
from exptilt.models.devices import on_one_of
from exptilt.rewards import RewardSpec
from exptilt.stages.ensemble import ruled
from exptilt.stages.failures import PromptsFailed, missing_prompt
from exptilt.stages.recipe import Recipe
from exptilt.stages.score import AT_ONCE
from exptilt.tilting.weights import Floats


def rewards_of(recipe: Recipe, prompts: Sequence[dict[str, Any]], samples: Sequence[Sample]) -> Floats:
    """The rewards of samples, as a score step gives them.

    Args:
        recipe: its values.
        prompts: rows of the table of prompts, one for each sample [S].
        samples: [S].

    Returns:
        Rewards [S, V].

    Raises:
        PromptsFailed: rewards are not finite; it names their prompts.
    """
    columns = [_of_value(recipe, spec, prompts, samples) for spec in recipe.rewards]
    return np.stack(columns, axis=-1)


def _of_value(
    recipe: Recipe, spec: RewardSpec, prompts: Sequence[dict[str, Any]], samples: Sequence[Sample]
) -> Floats:
    found = [_scored(recipe, source, prompts, samples) for source in spec.sources]
    numbers = ruled(spec, np.stack(found, axis=-1))[1] if spec.members else found[0]
    bad = {
        prompts[place]["prompt_id"]: prompts[place]
        for place in np.flatnonzero(~np.isfinite(numbers)).tolist()
    }
    if bad:
        error = RewardError("a reward that is not finite")
        raise PromptsFailed([missing_prompt(row, f"value {spec.value!r}", error) for row in bad.values()])
    return numbers


def _scored(
    recipe: Recipe, source: RewardSpec, prompts: Sequence[dict[str, Any]], samples: Sequence[Sample]
) -> Floats:
    asked, completions = [prompt_of(row) for row in prompts], [sample.completion for sample in samples]
    nlls = [sample.nll for sample in samples]

    def work(device: str) -> Floats:
        return rewards.load(source, device).score(asked, completions, nlls).rewards

    return on_one_of(recipe.devices, "score", AT_ONCE, work)
