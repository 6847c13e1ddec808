"""A move leaves p_λ as it is, by enumeration of the toy engine's own law: truncation, ends, stops and cap."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

from exptilt.engines.base import P0
from exptilt.engines.registry import base_model
from exptilt.engines.stop_texts import before_stop
from exptilt.engines.toy import END, LETTERS, ToyEngine
from exptilt.tilting import moves

LAWS = {
    "plain": {},
    "temperature": {"temperature": 0.6},
    "top-k": {"top_k": 3},
    "top-p": {"top_p": 0.8},
    "all": {"temperature": 1.3, "top_k": 4, "top_p": 0.9},
    "cap of 3": {"max_new_tokens": 3},
    "cap of 1": {"max_new_tokens": 1},
    "no end token at the cap": {"top_k": 2, "max_new_tokens": 3},
    "stop text": {"stop": ("ab", "c")},
}
POINTS = (np.arange(12) + 0.5) / 12  # as many in each place, for up to four places


def engine(**changes) -> ToyEngine:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 50}
    return ToyEngine(P0(model=base_model("toy"), **{**settings, **changes}))


def text(path: tuple[int, ...]) -> str:
    return "".join(LETTERS[token] for token in path if token != END)


def paths(toy: ToyEngine, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], float]:
    """Every path of tokens that begins with `path`, with its probability given that beginning."""
    stopped = path and (path[-1] == END or before_stop(text(path), toy.p0.stop) != text(path))
    if stopped or len(path) == toy.length:
        return {path: 1.0}
    chances = np.exp(toy.tables(["x"])[0][0][path[-1] if path else END])
    found = {}
    for token in np.flatnonzero(chances).tolist():
        rest = paths(toy, (*path, token))
        found |= {whole: chances[token] * chance for whole, chance in rest.items()}
    return found


def lengths(states: list[tuple[int, ...]]) -> np.ndarray:
    n_tokens = np.array([sum(token != END for token in state) for state in states])
    return moves.path_lengths(n_tokens, np.array([state[-1] == END for state in states]))


def proposals(toy: ToyEngine, states: list[tuple[int, ...]], size: np.ndarray) -> np.ndarray:
    """q(z|y) [states, states], the rest of y redrawn from p0 behind each cut."""
    index = {state: i for i, state in enumerate(states)}
    rest = lru_cache(None)(lambda kept: paths(toy, kept))
    kernel = np.zeros((len(states), len(states)))
    for i, state in enumerate(states):
        for kept in moves.cuts(POINTS, np.full(len(POINTS), size[i])).tolist():
            law = rest(state[:kept])
            kernel[i, [index[whole] for whole in law]] += np.array([*law.values()]) / len(POINTS)
    return kernel


def rewards(toy: ToyEngine, states: list[tuple[int, ...]]) -> np.ndarray:
    """R of each state by its text, in four levels."""
    kept = [before_stop(text(state), toy.p0.stop) for state in states]
    return np.array([1.5 * (len(t) % 3) + 0.75 * ("a" in t) - 0.75 * ("d" in t) for t in kept])


def moved(kernel: np.ndarray, reward: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The transition matrix: what is accepted, and y itself otherwise."""
    accept = np.exp(moves.log_acceptance(reward[:, None], reward, size[:, None], size))
    taken = kernel * accept
    return taken + np.diag(1 - taken.sum(axis=1))


def system(changes: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """q, R, |y| and p0 over all paths of a toy."""
    toy = engine(**changes)
    law = paths(toy)
    states = list(law)
    size = lengths(states)
    return proposals(toy, states, size), rewards(toy, states), size, np.array([*law.values()])


def tilted(p: np.ndarray, reward: np.ndarray) -> np.ndarray:
    return p * np.exp(reward) / (p @ np.exp(reward))


@pytest.mark.parametrize("changes", LAWS.values(), ids=LAWS)
def test_a_move_leaves_the_tilt_as_it_is(changes):
    q, reward, size, p = system(changes)
    kernel, target = moved(q, reward, size), tilted(p, reward)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(kernel.sum(axis=1) - 1).max() < 1e-12
    assert np.abs(target @ kernel - target).sum() < 1e-12


@pytest.mark.parametrize("wrong", ["no length", "no end token"])
def test_without_the_length_of_all_that_was_drawn_it_is_another_law(wrong):
    q, reward, size, p = system({})
    ended = np.array([state[-1] == END for state in paths(engine())])
    other = np.ones_like(size) if wrong == "no length" else np.maximum(size - ended, 1)
    target = tilted(p, reward)
    assert np.abs(target @ moved(q, reward, other) - target).sum() > 0.01


def test_a_stop_text_has_no_end_token_to_count():
    q, reward, size, p = system(LAWS["stop text"])
    ended = np.array([state[-1] == END for state in paths(engine(**LAWS["stop text"]))])
    stopped = np.array([len(state) < 4 for state in paths(engine(**LAWS["stop text"]))]) & ~ended
    target = tilted(p, reward)
    assert np.abs(target @ moved(q, reward, size + stopped) - target).sum() > 0.001


def resampled(p: np.ndarray, reward: np.ndarray, n: int) -> np.ndarray:
    """The law of one draw by weight from n samples of p0: n p0(y) e^R(y) ∫ exp(−t e^R(y)) φ(t)^(n−1) dt,
    φ the Laplace transform of e^R under p0."""
    log_t = np.linspace(-40, 12, 4000)
    rate = np.exp(reward)
    fade = np.exp(-np.exp(log_t)[:, None] * rate)
    kernel = fade * ((fade @ p) ** (n - 1) * np.exp(log_t))[:, None]
    return n * p * rate * np.trapezoid(kernel, log_t, axis=0)


def divergence(law: np.ndarray, target: np.ndarray) -> float:
    held = law > 0
    return float(law[held] @ np.log(law[held] / target[held]))


@pytest.mark.parametrize("n", [1, 4])
def test_each_move_brings_the_law_of_the_draw_no_further_from_the_tilt(n):
    q, reward, size, p = system(LAWS["all"])
    kernel, target = moved(q, reward, size), tilted(p, reward)
    law = resampled(p, reward, n)
    assert law.sum() == pytest.approx(1, abs=1e-9)
    left = []
    for _ in range(30):
        left.append(divergence(law, target))
        law = law @ kernel
    assert np.all(np.diff(left) <= 1e-12)
    assert left[-1] < 0.02 * left[0]


def test_the_law_of_one_draw_is_that_of_many_draws():
    _, reward, _, p = system({"max_new_tokens": 2})
    rng = np.random.default_rng(0)
    samples = rng.choice(len(p), p=p, size=(40_000, 3))
    weights = np.exp(reward[samples])
    picks = (weights.cumsum(1) < rng.random((40_000, 1)) * weights.sum(1, keepdims=True)).sum(1)
    kept = np.bincount(samples[np.arange(len(picks)), picks], minlength=len(p))
    assert stats.chisquare(kept, 40_000 * resampled(p, reward, 3), sum_check=False).pvalue > 1e-4


def test_every_place_is_as_likely():
    rng = np.random.default_rng(0)
    places = moves.cuts(rng.random(60_000), np.full(60_000, 6))
    assert stats.chisquare(np.bincount(places, minlength=6)).pvalue > 1e-4
    assert moves.cuts(np.array([0.0, np.nextafter(1, 0)]), np.array([1, 2**40])).tolist() == [0, 2**40 - 1]


def test_a_proposal_is_taken_as_often_as_its_probability_says():
    log_probability = moves.log_acceptance(np.array([2.0]), np.array([1.0]), np.array([6]), np.array([3]))
    assert np.exp(log_probability) == pytest.approx(2 / np.e)
    taken = moves.accepted(np.random.default_rng(0).random(20_000), np.repeat(log_probability, 20_000))
    assert stats.binomtest(int(taken.sum()), 20_000, 2 / np.e).pvalue > 1e-4
    assert moves.accepted(np.array([0.0, 0.999]), np.array([-1e300, 0.0])).all()


def test_a_state_without_tokens_is_refused():
    with pytest.raises(ValueError, match="without tokens"):
        moves.cuts(np.array([0.5]), np.array([0]))
