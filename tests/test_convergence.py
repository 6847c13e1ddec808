"""Chains are called bracketed where they have arrived, on a tilt whose level is known, and never before.

Completions of 16 tokens whose rewards are normal and add up: log weights have deviation λσ under p0
and mean (λσ)² under p_λ.
"""

import numpy as np
import pytest

from exptilt.tilting import convergence, moves
from exptilt.tilting.convergence import Mean

TOKENS = 16


def samples(rng: np.random.Generator, strength: float, *shape: int) -> np.ndarray:
    return rng.normal(size=(*shape, TOKENS)) * strength / np.sqrt(TOKENS)


def kept(rng: np.random.Generator, pool: np.ndarray, lam: float) -> np.ndarray:
    """One draw of each prompt's pool at `lam` times the tilt; its best sample at infinity."""
    reward = pool.sum(-1)
    score = reward if np.isinf(lam) else lam * reward + rng.gumbel(size=reward.shape)
    return pool[np.arange(len(pool)), score.argmax(1)]


def moved(strength: float, lam: float, starts: list[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    """States [P, K + 1, TOKENS] of chains that share their cuts, draws and acceptances."""
    rng = np.random.default_rng(seed)
    size = np.full(len(starts[0]), TOKENS)
    courses = [[start] for start in starts]
    for _ in range(count):
        cut, fresh = moves.cuts(rng.random(len(size)), size), samples(rng, strength, len(size))
        u = rng.random(len(size))
        for each in courses:
            y = each[-1]
            z = np.where(np.arange(TOKENS) < cut[:, None], y, fresh)
            log_probability = moves.log_acceptance(lam * y.sum(1), lam * z.sum(1), size, size)
            each.append(np.where(moves.accepted(u, log_probability)[:, None], z, y))
    return [np.stack(each, 1) for each in courses]


def run(strength: float, prompts: int, count: int, seed: int, above: str = "2λ") -> convergence.Convergence:
    """The verdict on chains of one draw of 32 samples per prompt, a second set at a quarter of them."""
    rng = np.random.default_rng(seed)
    pool = samples(rng, strength, prompts, 32)
    part = pool[: prompts // 4]
    start = kept(rng, pool, 1.0)
    higher = kept(rng, part, np.inf)
    if above == "2λ":
        (refined,) = moved(strength, 2.0, [kept(rng, part, 2.0)], count, seed + 1)
        higher = refined[:, -1]
    first, second = moved(strength, 1.0, [start, padded(higher, start)], count, seed + 2)
    rows = np.arange(len(part))
    return convergence.judge(pool.sum(-1).mean(1), first.sum(-1), second.sum(-1)[rows], rows)


def padded(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.concatenate([part, whole[len(part) :]])


def test_chains_that_have_arrived_are_bracketed():
    found = [run(2.0, 800, 256, seed) for seed in range(6)]
    bracketed = [each for each in found if each.verdict == "bracketed"]
    assert len(bracketed) >= 3
    assert all(abs(each.reached.mean - 4.0) < 0.05 * 4.0 + 3 * each.reached.error for each in bracketed)


@pytest.mark.parametrize("above", ["2λ", "best of n"])
@pytest.mark.parametrize("count", [8, 16, 64])
@pytest.mark.parametrize("prompts", [64, 400])
def test_chains_at_five_deviations_are_never_bracketed(prompts, count, above):
    for seed in range(4):
        found = run(5.0, prompts, count, seed, above)
        assert found.verdict == "not converged"
        assert found.reason
        assert found.reached.mean < 0.7 * 25


def test_too_few_moves_at_three_deviations_are_not_bracketed():
    assert {run(3.0, 256, 16, seed).verdict for seed in range(20)} == {"not converged"}


def series(start: float, end: float, count: int = 17) -> np.ndarray:
    """Courses [500, count] from one level to another that is reached half way, with a little noise."""
    levels = np.concatenate([np.linspace(start, end, count // 2), np.full(count - count // 2, end)])
    noise = np.random.default_rng(round(100 * start)).normal(size=(500, 1))
    return levels + noise * np.linspace(0.02, 0.01, count)


ROWS = np.arange(500)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (series(3.0, 4.0), series(5.0, 4.0), ""),
        (series(3.0, 3.5), series(3.4, 3.5), "does not begin above"),
        (series(3.0, 3.5), series(5.0, 4.0), "have not met"),
        (series(0.0, -1.0), series(5.0, -1.0), "not moved the level"),
        (series(3.0, 4.0)[:, :10], series(5.0, 4.0)[:, :10], "still rises"),
    ],
)
def test_the_reason_names_what_fails(first, second, reason):
    found = convergence.judge(np.zeros(500), first - first[:, -1:] + first[:, -1:].mean(), second, ROWS)
    assert reason in found.reason
    assert found.verdict == ("not converged" if reason else "bracketed")


def test_noise_does_not_pass_for_agreement():
    rng = np.random.default_rng(1)
    first, second = rng.normal(4.0, 6.0, size=(20, 9)), rng.normal(4.0, 6.0, size=(20, 9))
    second[:, 0] += 40.0
    found = convergence.judge(np.zeros(20), first, second, np.arange(20))
    assert abs(found.gap.mean) < 2 * found.gap.error
    assert found.verdict == "not converged"


def test_one_prompt_says_nothing():
    found = convergence.judge(np.zeros(1), np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]]), np.array([0]))
    assert found.reason == "one prompt shows no error"


def test_the_course_has_a_mean_and_an_error_for_each_number_of_moves():
    assert convergence.course(np.array([[0.0, 1.0], [2.0, 1.0]])) == [Mean(1.0, 1.0), Mean(1.0, 0.0)]


def test_the_sentence_says_what_was_reached():
    found = run(5.0, 64, 8, 0)
    said = convergence.sentence(found, 8)
    assert said.startswith("not converged: 8 moves reach ")
    assert f"{found.reached.mean:.3f}" in said
