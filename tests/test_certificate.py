"""The verdict on a tilt: sound, strained, or best-of-n in disguise, and what to do about it."""

import numpy as np
import pytest

from exptilt import certificate
from exptilt.diagnostics import diagnose


def judge(log_weight: np.ndarray) -> str:
    said = diagnose(log_weight)
    n = log_weight.shape[1]
    low, short = np.mean(said.ess < certificate.LOW_ESS), np.mean(said.n_needed > n)
    return certificate.verdict(n, float(low), float(short))


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
    assert certificate.sentence("sound", 32, 0.0, 0.0) == "sound: 32 samples suffice at 100% of the prompts"
    assert certificate.sentence("best-of-n in disguise", 8, 0.9, 1.0).startswith("best-of-8 in disguise")
    assert certificate.advice("sound", 4.0) is None
    assert "--nsamples 130," in str(certificate.advice("strained", 121.7))
    assert "100,000 samples would not do" in str(certificate.advice("best-of-n in disguise", 1e30))


@pytest.mark.parametrize(("number", "asked"), [(7.2, 8), (54.6, 55), (121.7, 130), (1808.0, 1900)])
def test_a_number_is_rounded_up_to_what_a_person_asks_for(number, asked):
    assert certificate.round_up(number) == asked
