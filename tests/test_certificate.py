"""The verdict on a tilt: sound, strained, or best-of-n in disguise, and what to do about it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exptilt.reports.estimate import Estimate
from exptilt.reports.summary import Quality, Summary
from exptilt.reports.totals import _most
from exptilt.tilting import verdict
from exptilt.tilting.diagnostics import diagnose


def judge(log_weight: np.ndarray) -> str:
    said = diagnose(log_weight)
    n = log_weight.shape[1]
    low, short = np.mean(said.ess < verdict.LOW_ESS), np.mean(said.n_needed > n)
    return verdict.verdict(n, float(low), float(short))


@pytest.mark.parametrize(
    ("strength", "n", "word"),
    [
        (0.0, 32, "sound"),
        (1.0, 32, "sound"),
        (2.0, 32, "strained"),
        (2.0, 400, "sound"),
        (8.0, 32, "best-of-n in disguise"),
        (1e6, 32, "best-of-n in disguise"),
        (1.0, 1, "nothing to choose"),
    ],
)
def test_the_verdict_on_normal_rewards(strength, n, word):
    assert judge(strength * np.random.default_rng(0).normal(size=(500, n))) == word


def test_the_sentence_begins_with_the_verdict_and_the_advice_names_a_number():
    assert verdict.sentence("sound", 32, 0.0, 0.0) == "sound: 32 samples suffice at 100% of the prompts"
    assert verdict.sentence("best-of-n in disguise", 8, 0.9, 1.0).startswith("best-of-8 in disguise")
    assert verdict.advice("sound", 32, 4.0) is None
    assert "--nsamples 130," in str(verdict.advice("strained", 32, 121.7))
    assert "100,000 samples would not do" in str(verdict.advice("best-of-n in disguise", 8, 1e30))


@pytest.mark.parametrize(("number", "asked"), [(7.2, 8), (54.6, 55), (121.7, 130), (1808.0, 1900)])
def test_a_number_is_rounded_up_to_what_a_person_asks_for(number, asked):
    assert verdict.round_up(number) == asked


def summed(needed: np.ndarray, has: np.ndarray, low: float) -> Summary:
    """A run whose prompts need `needed` samples [P] and have `has`, the fewest of which were asked for."""
    zero = Estimate(0.0, 0.0)
    quality = Quality(
        n=float(np.median(has)),
        kl=zero,
        log_z=zero,
        ess=1.5,
        max_weight=0.5,
        low_share=low,
        short_share=float(np.mean(needed > has)),
        khat_share=None,
        n_by_tail=None,
        n_needed=_most(needed.copy()),
        unique=1.0,
        acceptance=0.5,
    )
    return Summary(
        title="a", prompts=len(has), samples=int(has.sum()), kept=len(has), n=int(has.min()), quality=quality
    )


needs = st.one_of(st.floats(1, 40), st.floats(1, 1e7), st.just(np.inf), st.integers(1, 40).map(float))
prompts = st.lists(st.tuples(needs, st.sampled_from([1, 1, 1, 2, 8])), min_size=1, max_size=45)


@given(prompts, st.integers(2, 300), st.sampled_from([0.0, 0.9]))
def test_advice_asks_for_more_samples_than_there_are_and_for_enough(rows, n, low):
    """At the n advised, at most a tenth of the prompts are short; also after a top-up of some of them."""
    needed, has = np.array([row[0] for row in rows]), n * np.array([row[1] for row in rows])
    summary = summed(needed, has, low)
    advised = re.search(r"--nsamples (\d+)", summary.warning or "")
    if advised:
        assert int(advised[1]) > max(n, np.median(has))
        assert np.mean(needed > int(advised[1])) <= verdict.SHORT_SHARE
    if summary.verdict == verdict.STRAINED and max(needed) <= verdict.MOST_SAMPLES and max(has) == n:
        assert advised
    beyond = re.search(r"([\d,]+) samples would not do", summary.warning or "")
    assert not beyond or np.mean(needed > int(beyond[1].replace(",", ""))) > verdict.SHORT_SHARE


def test_one_prompt_in_six_that_is_short_is_counted_whole():
    summary = summed(np.array([2.0, 3.0, 4.0, 5.0, 6.0, 21.5]), np.full(6, 16), 0.0)
    assert summary.sentence == "strained: 16 samples are too few at 17% of the prompts"
    assert "--nsamples 22," in str(summary.warning)


def test_more_samples_are_no_advice_where_there_are_enough():
    summary = summed(np.full(20, 7.0), np.full(20, 16), 0.9)
    assert str(summary.warning).endswith("one sample holds most of the weight; use a smaller --lam")
