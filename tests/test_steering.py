"""Steered particles follow the tilt, on the toy engine's law, whose completions end at different lengths.

A block is one letter. The reward of a text adds up over its letters and its length; prefixes are scored as if
they were whole, with noise or without. M populations of n particles, T letters at most.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from exptilt.engines.base import P0
from exptilt.engines.registry import base_model
from exptilt.engines.toy import END, LENGTH, LETTERS, ToyEngine
from exptilt.tilting import calibration, steering
from exptilt.tilting.calibration import Potential
from exptilt.tilting.resampling import multinomial
from exptilt.tilting.weights import normalise

NONE = -1  # no token
CODES = (len(LETTERS) + 1) ** LENGTH
EFFECTS = np.array([1.0, -0.5, 0.4, -1.0, 0.3, 0.0])  # of each letter, the end token, and none
OTHERS = [f"prompt {i}" for i in range(24)]


def table(prompt: str) -> np.ndarray:
    """p0 of the next token given the last [5, 5]."""
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 50}
    return np.exp(ToyEngine(P0(model=base_model("toy"), **settings)).tables([prompt])[0][0])


def codes(tokens: np.ndarray) -> np.ndarray:
    """A number of each path, of any shape [..., T]."""
    return (tokens + 1) @ (len(LETTERS) + 1) ** np.arange(LENGTH)


def reward(tokens: np.ndarray, scale: float) -> np.ndarray:
    """R of paths [..., T]: what their tokens add up to."""
    return scale * EFFECTS[tokens].sum(-1)


def drawn(chances: np.ndarray, tokens: np.ndarray, place: int, rng: np.random.Generator) -> np.ndarray:
    """The paths [..., T] with a token at `place` where they go on."""
    last = tokens[..., place - 1] if place else np.full(tokens.shape[:-1], END)
    token = (rng.random(last.shape)[..., None] >= np.cumsum(chances[last], axis=-1)[..., :-1]).sum(-1)
    token = np.where((place > 0) & ((last == END) | (last == NONE)), NONE, token)
    out = tokens.copy()
    out[..., place] = token
    return out


def samples(prompt: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Whole paths [*shape, T] from p0."""
    tokens = np.full((*shape, LENGTH), NONE)
    for place in range(LENGTH):
        tokens = drawn(table(prompt), tokens, place, rng)
    return tokens


def ended(tokens: np.ndarray) -> np.ndarray:
    return (tokens == END).any(-1) | (tokens[..., -1] != NONE)


def cut(tokens: np.ndarray, place: int) -> np.ndarray:
    """The paths up to `place`, that token among them."""
    out = tokens.copy()
    out[..., place + 1 :] = NONE
    return out


@dataclass(frozen=True)
class Prefixes:
    """How a prefix is scored: R times `trust`, with noise of its own."""

    scale: float
    trust: float = 1.0
    noise: float = 0.0

    def score(self, tokens: np.ndarray) -> np.ndarray:
        luck = np.random.default_rng(5).normal(size=CODES)[codes(tokens)]
        return self.trust * reward(tokens, self.scale) + self.noise * self.scale * luck


def fitted(how: Prefixes, count: int = 16) -> list[Potential]:
    """The potentials of the blocks, from samples of other prompts."""
    rng = np.random.default_rng(3)
    pools = np.stack([samples(prompt, (count,), rng) for prompt in OTHERS])
    of = np.repeat(np.arange(len(OTHERS)), count).reshape(pools.shape[:2])
    found = []
    for place in range(LENGTH - 1):
        prefix = cut(pools, place)
        live = ~ended(prefix)
        found.append(calibration.fit(how.score(prefix)[live], reward(pools, how.scale)[live], of[live]))
    return found


def steered(
    how: Prefixes, potentials: list[Potential], shape: tuple[int, int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths [M, n, T] of prompt x, their log weights [M, n] and log Ẑ [M]."""
    rng = np.random.default_rng(seed)
    chances, tokens = table("x"), np.full((*shape, LENGTH), NONE)
    population, ones = steering.start(*shape), np.ones(shape[0])
    for place, potential in enumerate(potentials):
        tokens = drawn(chances, tokens, place, rng)
        over = ended(tokens)
        score = np.where(over, reward(tokens, how.scale), how.score(tokens))
        log_psi = steering.log_potentials(score, over, potential.intercept * ones, potential.slope * ones)
        population, ancestors = steering.resample(
            population, log_psi, rng.random(shape[0]), ones * potential.slope != 0
        )
        tokens = np.take_along_axis(tokens, ancestors[..., None], axis=1)
    tokens = drawn(chances, tokens, LENGTH - 1, rng)
    log_psi = reward(tokens, how.scale)
    return tokens, steering.log_weights(population, log_psi), steering.log_evidence(population, log_psi)


def every_path(chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All whole paths [N, T] and their probabilities [N]."""
    paths, p = np.full((1, LENGTH), NONE), np.ones(1)
    for place in range(LENGTH):
        over = ended(paths)
        last = paths[~over, place - 1] if place else np.array([END])
        longer = np.repeat(paths[~over], len(LETTERS), axis=0)
        longer[:, place] = np.tile(np.arange(len(LETTERS)), len(last))
        paths = np.concatenate([paths[over], longer])
        p = np.concatenate([p[over], (p[~over, None] * chances[last]).ravel()])
    return paths, p


def truth(scale: float) -> tuple[float, float]:
    """log Z and the level of R under p_λ at prompt x."""
    paths, p = every_path(table("x"))
    r = reward(paths, scale)
    return float(np.log(p @ np.exp(r))), float(normalise(np.log(p) + r) @ r)


def level(tokens: np.ndarray, log_weight: np.ndarray, scale: float) -> tuple[float, float]:
    """The mean weighted R over populations, and its standard error."""
    each = (normalise(log_weight) * reward(tokens, scale)).sum(1)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def plain(scale: float, shape: tuple[int, int]) -> tuple[float, float]:
    """The same of plain resampling from as many samples."""
    tokens = samples("x", shape, np.random.default_rng(9))
    return level(tokens, reward(tokens, scale), scale)


def test_without_resampling_the_weights_and_the_draw_are_those_of_plain_samples_to_the_last_bit():
    tokens, log_weight, log_evidence = steered(Prefixes(2.0), [Potential(0.7, 0.0, 0.1, 0.0)] * 3, (50, 8))
    plain_weight = reward(tokens, 2.0)
    assert np.array_equal(log_weight, plain_weight)
    uniforms = np.random.default_rng(1).random((50, 8))
    assert np.array_equal(multinomial(log_weight, uniforms, 3), multinomial(plain_weight, uniforms, 3))
    assert np.allclose(log_evidence, np.log(np.exp(plain_weight).mean(1)))


@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize("trust", [0.5, 3.0])
def test_the_mean_of_the_evidence_is_the_constant_of_the_tilt_whatever_the_potentials(scale, trust):
    how = Prefixes(scale, trust, noise=1.0)
    _, _, log_evidence = steered(how, [Potential(0.3, 1.0, 0.1, 0.5)] * 3, (6000, 16))
    ratio = np.exp(log_evidence - truth(scale)[0])
    assert abs(ratio.mean() - 1) < 3 * ratio.std(ddof=1) / np.sqrt(len(ratio))
    assert log_evidence.mean() < truth(scale)[0]


def promises(scale: float) -> np.ndarray:
    """E[exp R | prefix] of every prefix, by its code [CODES]."""
    paths, p = every_path(table("x"))
    out = np.zeros(CODES)
    for place in range(-1, LENGTH):
        prefix = codes(cut(paths, place))
        total = np.bincount(prefix, p * np.exp(reward(paths, scale)), minlength=CODES)
        out[prefix] = total[prefix] / np.bincount(prefix, p, minlength=CODES)[prefix]
    return out


def extended(
    tokens: np.ndarray, place: int, promise: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The paths with one token more, by p0 or by p0 twisted by `promise`, and log p0/q of that token."""
    p = table("x")[tokens[..., place - 1] if place else np.full(tokens.shape[:-1], END)]
    each = np.repeat(tokens[..., None, :], len(LETTERS), axis=-2)
    each[..., place] = np.arange(len(LETTERS))
    over = ended(tokens)
    q = p if promise is None else np.where(over[..., None], p, p * promise[codes(each)])
    q = q / q.sum(-1, keepdims=True)
    token = (rng.random(q.shape[:-1])[..., None] >= np.cumsum(q, -1)[..., :-1]).sum(-1)[..., None]
    ratio = np.log(np.take_along_axis(p, token, -1) / np.take_along_axis(q, token, -1))[..., 0]
    longer = np.take_along_axis(each, token[..., None], -2)[..., 0, :]
    return np.where(over[..., None], tokens, longer), np.where(over, 0.0, ratio)


@pytest.mark.parametrize("twisted", [True, False])
def test_the_exact_twist_has_no_variance_with_the_twisted_proposal_alone(twisted):
    rng, scale, shape = np.random.default_rng(0), 1.5, (200, 8)
    promise, tokens = promises(scale), np.full((*shape, LENGTH), NONE)
    population, ratio = steering.start(*shape), np.zeros(shape)
    for place in range(LENGTH):
        tokens, more = extended(tokens, place, promise if twisted else None, rng)
        ratio += more
        log_psi = np.log(promise[codes(tokens)]) + ratio
        evidence = steering.log_evidence(population, log_psi)
        population, ancestors = steering.resample(
            population, log_psi, rng.random(shape[0]), np.ones(shape[0], bool)
        )
        tokens = np.take_along_axis(tokens, ancestors[..., None], 1)
        ratio = np.take_along_axis(ratio, ancestors, 1)
    off = np.abs(evidence - truth(scale)[0]).max()
    assert off < 1e-12 if twisted else off > 0.05


@pytest.mark.parametrize("scale", [2.0, 4.0])
@pytest.mark.parametrize(
    "how",
    [{"trust": 0.0, "noise": 1.0}, {"trust": 3.0, "noise": 2.0}],
    ids=["uninformative", "overconfident"],
)
def test_prefix_rewards_that_mislead_cost_nothing_once_calibrated(how, scale):
    prefixes = Prefixes(scale, **how)
    tokens, log_weight, _ = steered(prefixes, fitted(prefixes), (1500, 16))
    got, error = level(tokens, log_weight, scale)
    bare, bare_error = plain(scale, (1500, 16))
    assert got > bare - 2 * np.hypot(error, bare_error)


def test_prefix_rewards_that_inform_go_further_than_plain_samples():
    prefixes = Prefixes(4.0)
    tokens, log_weight, _ = steered(prefixes, fitted(prefixes), (1500, 16))
    got, error = level(tokens, log_weight, 4.0)
    bare, bare_error = plain(4.0, (1500, 16))
    assert got > bare + 3 * np.hypot(error, bare_error)
    assert got < truth(4.0)[1]
