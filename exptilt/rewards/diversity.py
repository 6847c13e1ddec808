"""Diversity as a reward: how few n-grams a text repeats. No model, no download.

∏_{n=2,3,4} (distinct n-grams) / (n-grams + 1), over the words of prompt + completion (Su et al. 2022,
section 4.1; the + 1 is the research code's). Words are NLTK's, sentence by sentence; sentences end by
the Punkt rules (Kiss & Strunk 2006) with the abbreviations below instead of a downloaded model.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

from exptilt.conversation import Prompt
from exptilt.data.texts import texts_of
from exptilt.rewards.base import RewardSpec, Scored

ABBREVIATIONS: Final = frozenset(
    "mr mrs ms dr prof sr jr st rev gen col capt lt sgt gov sen rep vs inc ltd co corp "
    "e.g i.e a.m p.m u.s u.k u.n d.c ph.d".split()
)


class DiversityReward:
    """r(x, y) = diversity of x + y, between 0 and 1."""

    def __init__(self, spec: RewardSpec) -> None:
        self.spec = spec

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], nlls: Sequence[float | None]
    ) -> Scored:
        """See base.Reward."""
        numbers = [diversity(text) for text in texts_of(prompts, completions)]
        return Scored(np.array(numbers, dtype=np.float64))


def diversity(text: str) -> float:
    """∏_{n=2,3,4} distinct n-grams / (n-grams + 1) of the words of `text`."""
    found = words(text)
    product = 1.0
    for n in (2, 3, 4):
        grams = list(zip(*(found[i:] for i in range(n)), strict=False))
        product *= len(set(grams)) / (len(grams) + 1)
    return product


def words(text: str) -> list[str]:
    """The words of `text`, sentence by sentence."""
    sentences, tokenizer = _tokenizers()
    return [word for sentence in sentences.tokenize(text) for word in tokenizer.tokenize(sentence)]


@lru_cache(maxsize=1)
def _tokenizers() -> tuple[PunktSentenceTokenizer, NLTKWordTokenizer]:
    rules = PunktParameters()
    rules.abbrev_types = set(ABBREVIATIONS)
    return PunktSentenceTokenizer(rules), NLTKWordTokenizer()
