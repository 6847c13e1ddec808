"""A potential is E[exp R | prefix]: its slope is within prompts, its intercept has what the residuals add."""

import numpy as np
import pytest

from exptilt.tilting.calibration import LEAST, fit


def pool(prompts: int, each: int, slope: float, rest: float, between: float, seed: int = 0):
    """Rewards of prefixes, of wholes and the prompts' numbers; `between` is the spread of prompts' levels."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(prompts), each)
    level = between * rng.normal(size=prompts)
    x = rng.normal(size=len(of)) - level[of]  # between prompts, prefixes say the opposite
    return x, slope * (x + level[of]) + 3 * level[of] + rest * rng.normal(size=len(of)), of


def test_differences_between_prompts_are_no_slope():
    found = fit(*pool(200, 16, 2.0, 0.5, 5.0))
    assert found.slope == pytest.approx(2.0, abs=3 * found.error)
    assert found.error < 0.02
    assert found.explained == pytest.approx(4 / 4.25, abs=0.01)


@pytest.mark.parametrize("each", [2, 8])
def test_the_intercept_has_what_the_residuals_add_to_the_mean_of_exp(each):
    found = fit(*pool(4000, each, 1.0, 1.5, 0.0))
    assert found.intercept == pytest.approx(1.5**2 / 2, abs=0.12)


def test_prompts_with_one_sample_show_no_slope_and_count_for_the_level():
    x, whole, of = pool(300, 8, 1.0, 0.2, 0.0)
    more = np.arange(1000, 1300)
    found = fit(np.r_[x, np.zeros(300)], np.r_[whole, np.full(300, 2.0)], np.r_[of, more])
    assert found.slope == pytest.approx(1.0, abs=0.05)
    assert found.intercept == pytest.approx(1.0 + 0.2**2 / 2, abs=0.05)


def test_prefixes_that_say_nothing_do_not_steer():
    slopes = [fit(*pool(20, 8, 0.0, 1.0, 1.0, seed)).slope for seed in range(200)]
    assert np.mean(np.array(slopes) == 0) > 0.9


@pytest.mark.parametrize(
    ("x", "whole", "of"),
    [
        (np.empty(0), np.empty(0), np.empty(0, int)),
        (np.arange(LEAST + 1.0), np.arange(LEAST + 1.0), np.zeros(LEAST + 1, int)),
        (np.arange(900.0), np.arange(900.0), np.arange(900)),
        (np.full(100, 3.3), np.arange(100.0), np.arange(100) % 4),
        (np.arange(100.0), np.full(100, 3.3), np.arange(100) % 4),
    ],
    ids=["none", "too few", "one of each prompt", "constant prefixes", "constant rewards"],
)
def test_where_nothing_can_be_fitted_the_block_does_not_steer(x, whole, of):
    found = fit(x, whole, of)
    assert (found.slope, found.explained) == (0.0, 0.0)


def test_order_and_numbering_of_prompts_change_nothing():
    x, whole, of = pool(30, 8, 1.0, 1.0, 1.0)
    order = np.random.default_rng(0).permutation(len(of))
    one, two = fit(x, whole, of), fit(x[order], whole[order], 7 * of[order] + 3)
    assert one.slope == pytest.approx(two.slope, rel=1e-12)
    assert one.intercept == pytest.approx(two.intercept, rel=1e-12)
