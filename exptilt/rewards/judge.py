"""Rewards by a judge: a language model's answer to a rubric, as a number.

The answer is one token of a stated set. Where the server gives probabilities, the reward is the mean of the
answers' numbers by those of the first token at temperature 1 (expected); where it gives none, it is the
number of the answer at temperature 0 (written).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from exptilt.conversation import Prompt, text_of
from exptilt.errors import ModelError, PromptRefused
from exptilt.rewards import rubric
from exptilt.rewards.answers import named, sample_of
from exptilt.rewards.base import RewardSpec, Scored
from exptilt.rewards.first_tokens import Tokens, judge
from exptilt.rewards.rubric import Rubric

MASS: Final = 0.9  # of the first token's probability, which the answers must hold


class JudgeReward:
    """r(x, y) = the number of a judge's answer, the mean over its probabilities where these are given."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec, self.rubric = spec, rubric.parse(spec.rubric, f"the rubric of value {spec.value!r}")
        with named(spec.value):
            self.judge = judge(spec.model.source)
        if self.judge.gives != spec.transform:
            raise ModelError(
                f"value {spec.value!r}: {spec.model.source} gives the {self.judge.gives} answer, and the run "
                f"was planned with the {spec.transform} one; start it anew"
            )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward; a conversation is put in as a transcript.

        Raises PromptRefused where the server refuses a sample, or answers with none of the rubric's answers.
        """
        pairs = list(zip(prompts, completions, strict=True))
        questions = [self.rubric.filled(text_of(prompt), completion) for prompt, completion in pairs]
        with named(self.spec.value):
            found = self.judge.answers(questions, prompts, self.spec.in_flight)
        numbers = [
            number_of(tokens, self.rubric, f"{self.judge.name} answers {sample_of(prompt)}")
            for tokens, prompt in zip(found, prompts, strict=True)
        ]
        return Scored(np.array(numbers, dtype=np.float64))


def number_of(tokens: Tokens, asked: Rubric, answered: str) -> float:
    """The mean of the answers' numbers by the probabilities of `tokens`, renormalised over the answers.

    Args:
        tokens: the first tokens; those that differ in white space alone are one answer.
        asked: the rubric.
        answered: begins the error.

    Raises:
        PromptRefused: the answers hold less than MASS of the probability.
    """
    chances = defaultdict[str, float](float)
    for token, chance in tokens:
        chances[token.strip()] += chance
    mass = sum(chances[answer] for answer in asked.numbers)
    if mass < MASS:
        others = chances.keys() - asked.numbers.keys()
        other = max(others, key=lambda token: (chances[token], token), default="")
        raise PromptRefused(
            f"{answered} with a probability of {mass:.2f} by {asked.listed}, less than {MASS}; "
            f"the likeliest other token is {other!r} ({chances[other]:.2f})"
        )
    return sum(chances[answer] * number for answer, number in asked.numbers.items()) / mass
