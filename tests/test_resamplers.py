"""Each resampler does what its law says: expected copies, spread, replacement, acceptance."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from exptilt.tilting.resampling import RESAMPLERS
from exptilt.tilting.weights import normalise

LEVEL = 1e-4  # of every chi-square test here
LOG_WEIGHT = np.array([0.0, 1.0, -2.0, 0.5])
ROUNDS = 40_000


def run(name: str, log_weight: np.ndarray, draws: int, seed: int = 0, rounds: int = ROUNDS) -> np.ndarray:
    uniforms = np.random.default_rng(seed).random((rounds, max(len(log_weight), draws)))
    return RESAMPLERS[name](np.tile(log_weight, (rounds, 1)), uniforms, draws)


def copies(picks: np.ndarray) -> np.ndarray:
    return np.stack([(picks == i).sum(axis=1) for i in range(len(LOG_WEIGHT))], axis=1)


@pytest.mark.parametrize("name", ["multinomial", "systematic", "residual"])
@pytest.mark.parametrize("draws", [1, 3, 7])
def test_expected_copies_are_the_weights(name, draws):
    found, weight = copies(run(name, LOG_WEIGHT, draws)), normalise(LOG_WEIGHT)
    error = found.std(axis=0) / np.sqrt(ROUNDS)
    assert (np.abs(found.mean(axis=0) - draws * weight) <= 4.5 * error + 1e-12).all()


def test_multinomial_draws_are_independent():
    pairs = run("multinomial", LOG_WEIGHT, 2)
    observed = np.zeros((4, 4))
    np.add.at(observed, (pairs[:, 0], pairs[:, 1]), 1)
    expected = np.outer(normalise(LOG_WEIGHT), normalise(LOG_WEIGHT)) * ROUNDS
    assert stats.chisquare(observed.ravel(), expected.ravel()).pvalue > LEVEL


@pytest.mark.parametrize("name", ["systematic", "residual"])
def test_whole_copies_are_certain(name):
    found, expected = copies(run(name, LOG_WEIGHT, 7)), 7 * normalise(LOG_WEIGHT)
    assert (found >= np.floor(expected)).all()
    if name == "systematic":
        assert (found <= np.ceil(expected)).all()


def test_equal_weights_give_every_sample_once():
    for name in ("systematic", "residual"):
        picks = run(name, np.zeros(6), 6, rounds=50)
        np.testing.assert_array_equal(np.sort(picks, axis=1), np.tile(np.arange(6), (50, 1)))


def test_gumbel_top_k_draws_one_after_the_other_without_replacement():
    weight = normalise(LOG_WEIGHT)
    orders = run("gumbel-top-k", LOG_WEIGHT, 4)
    law = {}
    for order in itertools.permutations(range(4)):
        left, p = 1.0, 1.0
        for i in order:
            p, left = p * weight[i] / left, left - weight[i]
        law[order] = p
    seen = dict.fromkeys(law, 0)
    for order in map(tuple, orders.tolist()):
        seen[order] += 1
    expected = np.array([law[order] * ROUNDS for order in law])
    assert stats.chisquare(list(seen.values()), expected).pvalue > LEVEL


def test_rejection_accepts_by_weight_over_the_largest():
    picks = run("rejection", LOG_WEIGHT, 4)
    accepted = copies(picks).mean(axis=0)
    expected = normalise(LOG_WEIGHT) / normalise(LOG_WEIGHT).max()
    np.testing.assert_allclose(accepted, expected, atol=0.012)
    assert accepted.sum() / 4 == pytest.approx(1 / (4 * normalise(LOG_WEIGHT).max()), abs=0.01)
    for row in picks[:200]:
        kept = row[row >= 0]
        assert (np.diff(kept) > 0).all()
        assert (row[len(kept) :] == -1).all()


def test_best_of_n_keeps_the_largest_with_ties_by_lot():
    np.testing.assert_array_equal(run("best-of-n", LOG_WEIGHT, 2, rounds=5), [[1, 3]] * 5)
    firsts = run("best-of-n", np.array([1.0, 1.0, 0.0]), 1)[:, 0]
    assert stats.binomtest(int((firsts == 0).sum()), ROUNDS, 0.5).pvalue > LEVEL
    assert set(firsts.tolist()) == {0, 1}


@pytest.mark.parametrize("name", RESAMPLERS)
@given(
    n=st.integers(1, 12),
    draws=st.integers(1, 15),
    scale=st.sampled_from([0.0, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_picks_are_samples_whatever_the_weights(name, n, draws, scale, seed):
    rng = np.random.default_rng(seed)
    picks = RESAMPLERS[name](scale * rng.normal(size=(3, n)), rng.random((3, max(n, draws))), draws)
    assert picks.shape == (3, draws)
    assert ((picks >= -1) & (picks < n)).all()
    assert (picks[:, 0] >= 0).all()
    if name in ("multinomial", "systematic", "residual"):
        assert (picks >= 0).all()
    else:
        assert all(len(set(row) - {-1}) == sum(i >= 0 for i in row) for row in picks.tolist())


@pytest.mark.parametrize("name", RESAMPLERS)
def test_a_constant_changes_nothing(name):
    picks = [run(name, LOG_WEIGHT + c, 3, rounds=200) for c in (0.0, 1e3)]
    np.testing.assert_array_equal(*picks)
