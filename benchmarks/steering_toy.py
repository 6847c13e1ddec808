"""A toy of steering: every completion can be listed, so that laws of samples, moves and best-of-n are exact.

A completion is up to TOKENS letters, drawn from a table of the last letter that each prompt has of its own;
an end token may end it before. States are in the order of a tree, the end token first, so that completions of
a prefix stand side by side. The reward adds up over letters, with a part that only the whole text shows; its
deviation under p0 is 1. N states, 4^d prefixes of d letters.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.weights import normalise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LETTERS: Final = 4
TOKENS: Final = 6
DECAY, WHOLE = 0.7, 0.3  # a later letter's share of the reward; the part that only the whole text shows
NODES: Final = np.linspace(-40.0, 8.0, 600)  # of log t, for the law of one draw


@dataclass(frozen=True)
class Toy:
    """One prompt: p0, r and |y| of every completion [N]; `steps` are p0 of a letter, then of the end token
    in the last column, given the last letter, LETTERS at the beginning [LETTERS + 1, LETTERS + 1]."""

    steps: Floats
    ends: bool
    p: Floats
    reward: Floats
    lengths: Ints

    @cached_property
    def sizes(self) -> list[int]:
        """Completions of a live prefix of d letters, for each d."""
        sizes = [1]
        for _ in range(TOKENS):
            sizes.append(LETTERS * sizes[-1] + self.ends)
        return sizes[::-1]

    @cached_property
    def live(self) -> list[Ints]:
        """The completions of prefixes of d letters [4^d, size], for each d under TOKENS."""
        rows = [np.arange(len(self.p))[None]]
        for depth in range(1, TOKENS):
            inner = rows[-1][:, int(self.ends) :]
            rows.append(inner.reshape(LETTERS**depth, self.sizes[depth]))
        return rows

    def expected(self, depth: int, numbers: Floats) -> Floats:
        """The mean of numbers [N] under p0 given each prefix of `depth` letters, [4^depth]."""
        rows = self.live[depth]
        chances = self.p[rows]
        return np.asarray((chances * numbers[rows]).sum(1) / chances.sum(1))


def toy(seed: int, ends: bool) -> Toy:
    """A prompt of its own tables; with `ends`, completions end at different lengths."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(LETTERS + 1, LETTERS + 1)) * 0.7
    logits[:, -1] = -1.5 + 0.5 * logits[:, -1] if ends else -np.inf
    steps = normalise(logits)
    effects = rng.normal(size=(TOKENS, LETTERS + 1, LETTERS + 1)) * DECAY ** np.arange(TOKENS)[:, None, None]
    p, reward, lengths = _tree(steps, effects, ends, 0, LETTERS)
    mean, deviation = _moments(p, reward)
    mixed = np.sqrt(1 - WHOLE**2) * (reward - mean) / deviation + WHOLE * rng.normal(size=len(p))
    mean, deviation = _moments(p, mixed)
    return Toy(steps, ends, p, (mixed - mean) / deviation, lengths)


def _tree(steps: Floats, effects: Floats, ends: bool, depth: int, last: int) -> tuple[Floats, Floats, Ints]:
    """p0, the sum of effects and the length of all completions behind a prefix, without the prefix's own."""
    if depth == TOKENS:
        return np.ones(1), np.zeros(1), np.zeros(1, dtype=np.int64)
    parts = [(np.ones(1), np.zeros(1), np.zeros(1, dtype=np.int64), LETTERS)] if ends else []
    parts += [(*_tree(steps, effects, ends, depth + 1, letter), letter) for letter in range(LETTERS)]
    p = np.concatenate([steps[last, token] * chance for chance, *_, token in parts])
    reward = np.concatenate([effects[depth, last, token] + rest for _, rest, _, token in parts])
    return p, reward, np.concatenate([1 + length for _, _, length, _ in parts])


def _moments(p: Floats, numbers: Floats) -> tuple[float, float]:
    mean = float(p @ numbers)
    return mean, float(np.sqrt(p @ (numbers - mean) ** 2))


def tilted(p: Floats, log_weight: Floats) -> Floats:
    """p_λ of every state [N]."""
    return normalise(np.log(p) + log_weight)


def resampled(p: Floats, log_weight: Floats, n: int) -> Floats:
    """The law [N] of one draw by weight from n samples: n p0(y) w(y) ∫ exp(−t w(y)) φ(t)^(n−1) dt, with w the
    weights and φ their Laplace transform under p0."""
    scaled = np.exp(log_weight - log_weight.max())
    law = np.zeros(len(p))
    for log_t in NODES + 20.0:
        fade = np.exp(-np.exp(log_t) * scaled)
        law += fade * (fade @ p) ** (n - 1) * np.exp(log_t)
    law *= n * p * scaled * (NODES[1] - NODES[0])
    return law / law.sum()


def best(p: Floats, log_weight: Floats, n: int) -> Floats:
    """The law [N] of the best of n samples, ties by lot."""
    order = np.argsort(log_weight, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(p[order])])
    law = np.empty(len(p))
    law[order] = np.diff(np.minimum(below, 1.0) ** n)
    return law


class Moves:
    """The kernel of suffix Metropolis–Hastings on a toy, applied exactly to a law [N].

    With G = R − log |y| a proposal z of y is accepted with min(1, exp(G(z) − G(y))); within the completions
    of one prefix, in the order of G, what flows into each is a sum over those below and one over those above.
    """

    def __init__(self, toy: Toy, log_weight: Floats) -> None:
        score = log_weight - np.log(toy.lengths)
        self.lengths, self.levels = toy.lengths, list[tuple[Ints, Floats, Floats]]()
        for rows in toy.live:
            order = np.take_along_axis(rows, np.argsort(score[rows], axis=1), axis=1)
            chances = toy.p[order]
            self.levels.append((order, chances / chances.sum(1, keepdims=True), score[order]))
        self.left = self._left(len(toy.p))

    def _left(self, count: int) -> Floats:
        """The probability [N] that a move of each state is accepted."""
        left = np.zeros(count)
        for order, chances, score in self.levels:
            high = score[:, -1:]
            above = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1]
            below = np.cumsum(chances * np.exp(score - high), axis=1) - chances * np.exp(score - high)
            left[order] += above + below * np.exp(high - score)
        return left / self.lengths

    def __call__(self, law: Floats) -> Floats:
        """The law [N] after one more move."""
        spread = law / self.lengths
        moved = law * (1 - self.left)
        for order, chances, score in self.levels:
            mass, low = spread[order], score[:, :1]
            below = np.cumsum(mass, axis=1)
            faded = mass * np.exp(low - score)
            above = np.cumsum(faded[:, ::-1], axis=1)[:, ::-1] - faded
            moved[order] += chances * (below + above * np.exp(score - low))
        return moved
