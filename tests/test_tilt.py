"""Laws of the tilt and its diagnostics, by closed forms, enumeration and invariance."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from exptilt.tilting import diagnostics, weights
from exptilt.tilting.diagnostics import diagnose
from exptilt.tilting.resampling import multinomial

LEVEL = 1e-4  # of every chi-square test here: one false alarm in 10,000 runs of a fixed seed

finite = st.floats(-1e6, 1e6, allow_nan=False)
rewards = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=finite)


@given(rewards, st.floats(-1e6, 1e6))
def test_weights_are_a_distribution_and_never_overflow(r, lam):
    normalised = weights.normalise(lam * r)
    assert np.isfinite(normalised).all()
    assert (normalised >= 0).all()
    np.testing.assert_allclose(normalised.sum(axis=1), 1.0, rtol=1e-12)


@given(rewards)
def test_lambda_zero_is_uniform(r):
    logw = weights.log_weights(r[..., None], np.zeros(1))
    np.testing.assert_array_equal(weights.normalise(logw), 1 / r.shape[1])


@given(
    arrays(np.float64, (3, 20), elements=st.floats(-50, 50)),
    arrays(np.float64, (3, 1), elements=st.floats(-50, 50)),
)
def test_a_constant_added_to_a_prompts_rewards_changes_nothing(r, constant):
    np.testing.assert_allclose(weights.normalise(r), weights.normalise(r + constant), rtol=1e-9, atol=1e-9)
    one, other = diagnose(r), diagnose(r + constant)
    for name in ("ess", "max_weight", "kl", "kl_se", "log_z_se"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-7)


@given(rewards, st.floats(-1e3, 1e3))
def test_ess_lies_between_one_and_n(r, lam):
    n = r.shape[1]
    said = diagnose(lam * r)
    ess, largest = said.ess, said.max_weight
    assert (ess >= 1 - 1e-9).all()
    assert (ess <= n * (1 + 1e-9)).all()
    assert (largest >= 1 / n - 1e-12).all()
    assert (largest <= 1).all()


@given(rewards, st.floats(-1e3, 1e3))
def test_kl_lies_between_zero_and_log_n(r, lam):
    kl = diagnose(lam * r).kl
    assert (kl >= 0).all()
    assert (kl <= np.log(r.shape[1]) + 1e-9).all()


def test_extreme_lambda_keeps_the_best_alone():
    r = np.array([[0.0, 1.0, 0.5]])
    np.testing.assert_array_equal(weights.normalise(1e6 * r), [[0, 1, 0]])
    np.testing.assert_array_equal(weights.normalise(-1e6 * r), [[1, 0, 0]])


def test_one_sample_and_equal_rewards():
    assert weights.normalise(np.array([[1e6]])) == [[1.0]]
    one, equal = diagnose(np.array([[7.0]])), diagnose(np.full((1, 9), 3.0))
    assert (one.ess, one.n_needed, one.kl_se, one.log_z_se) == (1.0, 1.0, 0.0, 0.0)
    assert equal.ess == pytest.approx([9.0])
    assert (equal.kl, equal.n_needed) == (0.0, 1.0)
    assert equal.log_z == pytest.approx([3.0])


def test_fifty_values_add_up():
    rng = np.random.default_rng(0)
    r, lam = rng.normal(size=(2, 8, 50)), rng.normal(size=50)
    expected = [[sum(lam[v] * r[p, i, v] for v in range(50)) for i in range(8)] for p in range(2)]
    np.testing.assert_allclose(weights.log_weights(r, lam), expected)


def test_resampling_follows_the_weights():
    logw = np.log(np.array([[0.5, 0.3, 0.15, 0.05, 0.0 + 1e-300]]))
    picks = multinomial(logw, np.random.default_rng(1).random((1, 200_000)), 200_000)[0]
    counts = np.bincount(picks, minlength=5)
    assert counts[4] == 0
    assert stats.chisquare(counts[:4], 200_000 * np.array([0.5, 0.3, 0.15, 0.05])).pvalue > LEVEL


def test_resampling_never_picks_a_sample_without_weight():
    logw = np.array([[-np.inf, 0.0, -np.inf]])
    assert (multinomial(logw, np.linspace(0, 1, 1000, endpoint=False)[None], 1000) == 1).all()
    nearly_one = np.array([[np.nextafter(1.0, 0.0)]])
    assert multinomial(logw, nearly_one, 1) == [[1]]


def bernoulli_law(p: float, lam: float, n: int) -> float:
    """P(1) of one draw among n with a two-valued reward: E[K e^λ / (K e^λ + n − K)]."""
    k = np.arange(n + 1)
    return float((stats.binom.pmf(k, n, p) * k * np.exp(lam) / (k * np.exp(lam) + n - k)).sum())


@pytest.mark.parametrize(("n", "known"), [(8, 0.4485), (32, 0.6368), (128, 0.6790)])
def test_finite_n_bias_is_the_known_one(n, known):
    assert bernoulli_law(0.1, 3.0, n) == pytest.approx(known, abs=5e-5)
    rng = np.random.default_rng(n)
    r = (rng.random((100_000, n)) < 0.1).astype(float)
    picks = multinomial(3.0 * r, rng.random((100_000, 1)), 1)
    hits = int(np.take_along_axis(r, picks, axis=1).sum())
    assert stats.binomtest(hits, 100_000, bernoulli_law(0.1, 3.0, n)).pvalue > LEVEL


def test_error_shrinks_as_n_grows():
    target = 0.1 * np.exp(3) / (0.1 * np.exp(3) + 0.9)
    gaps = [target - bernoulli_law(0.1, 3.0, n) for n in (8, 32, 128, 512, 2048)]
    assert all(b < a for a, b in itertools.pairwise(gaps))
    assert 0 < gaps[-1] < 1e-3


def test_gaussian_rewards_have_their_closed_forms():
    """For r ~ N(0, 1): log Z = λ²/2, KL = λ²/2, and the tilted mean is λ."""
    lam, r = 0.7, np.random.default_rng(0).normal(size=(1, 2_000_000))
    assert diagnose(lam * r).log_z[0] == pytest.approx(lam**2 / 2, abs=3e-3)
    assert diagnose(lam * r).kl[0] == pytest.approx(lam**2 / 2, abs=3e-3)
    assert (weights.normalise(lam * r) * r).sum() == pytest.approx(lam, abs=5e-3)
    assert diagnose(lam * r).ess[0] / r.size == pytest.approx(np.exp(-(lam**2)), abs=1e-2)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9, 1.4])
def test_khat_finds_the_tail_of_a_pareto(shape):
    weights = np.random.default_rng(0).pareto(1 / shape, size=(200, 4000)) + 1
    assert diagnostics.khat(np.log(weights)).mean() == pytest.approx(shape, abs=0.06)


@pytest.mark.parametrize("gap", [1.0, 700.0, 707.0, 708.5, 709.0, 720.0, 744.0, 745.0, 746.0])
def test_khat_is_a_number_however_far_the_tails_weights_lie_apart(gap):
    log_weight = np.full((1, 25), -1e9)
    log_weight[0, :2] = 0.0, -gap
    assert np.isfinite(diagnostics.khat(log_weight)).all()
    assert np.isfinite(diagnostics.khat(log_weight - 1e5)).all()


def test_khat_says_when_it_knows_nothing():
    assert diagnostics.khat(np.zeros((1, 24)))[0] == np.inf
    assert diagnostics.khat(np.zeros((1, 100)))[0] == -np.inf


@given(rewards, st.floats(-50, 50))
def test_one_pass_gives_what_the_formulas_say(r, lam):
    logw = lam * r / max(np.abs(r).max(), 1)
    said, w, n = diagnose(logw), weights.normalise(logw), r.shape[1]
    mean = (w * logw).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said.ess, 1 / (w**2).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(said.max_weight, w.max(axis=1), rtol=1e-9)
    np.testing.assert_allclose(said.log_z, np.log(np.exp(logw).mean(axis=1)), atol=1e-9)
    np.testing.assert_allclose(said.kl, mean[:, 0] - np.log(np.exp(logw).mean(axis=1)), atol=1e-7)
    np.testing.assert_allclose(said.log_z_se, np.sqrt(np.maximum((w**2).sum(axis=1) - 1 / n, 0)), atol=1e-7)
    influence = w * (logw - mean - 1) + 1 / n
    np.testing.assert_allclose(said.kl_se, np.sqrt((influence**2).sum(axis=1)), atol=1e-5)


def test_intervals_hold_the_truth():
    """95 % intervals of log Z and KL over many prompts of normal rewards, λσ = 0.4, n = 512."""
    said = diagnose(0.4 * np.random.default_rng(3).normal(size=(4000, 512)))
    truth = 0.4**2 / 2
    assert np.mean(np.abs(said.log_z - truth) < 1.96 * said.log_z_se) == pytest.approx(0.95, abs=0.02)
    assert np.mean(np.abs(said.kl - truth) < 1.96 * said.kl_se) == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(("strength", "enough"), [(1, 4.48), (2, 54.6), (3, 1808)])
def test_the_samples_needed_by_a_normal_reward(strength, enough):
    """exp(λ²σ²/2 + λσ), also where the samples at hand cannot show it: ESS alone would flatter."""
    needed = diagnose(strength * np.random.default_rng(4).normal(size=(4000, 32))).n_needed
    assert np.median(needed) == pytest.approx(enough, rel=0.25)


def test_the_samples_needed_by_a_two_valued_reward():
    """p = 0.1, λ = 3: KL 1.004 and its deviation 1.387 ask for 11 samples."""
    needed = diagnose(3.0 * (np.random.default_rng(5).random((4000, 512)) < 0.1)).n_needed
    assert np.median(needed) == pytest.approx(10.9, rel=0.05)


def test_the_limit_is_nearer_to_the_tilted_model_than_the_level_at_n():
    """Normal reward: one draw of 32 reaches 93 % and 77 % of the shift λσ at λσ = 1 and 2."""
    rng = np.random.default_rng(6)
    for strength, reached in ((1, 0.93), (2, 0.77)):
        r = rng.normal(size=(20_000, 32, 1))
        level = weights.levels(strength * r[..., 0], r).mean() / strength
        limit = weights.limit_levels(strength * r[..., 0], r).mean() / strength
        assert level == pytest.approx(reached, abs=0.01)
        assert level < limit < 1.02


@pytest.mark.parametrize(
    ("shape", "enough"), [(-np.inf, 10), (0.0, 10), (0.5, 100), (0.7, 2154.4), (1.0, np.inf)]
)
def test_the_samples_that_a_tail_asks_for(shape, enough):
    assert diagnostics.n_by_tail(np.array([shape])) == pytest.approx([enough], rel=1e-3)
