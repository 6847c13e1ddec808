"""Steered populations on the toy: prefix rewards of several kinds, calibrated on samples of other prompts.

M populations of n particles stand for the law of one draw, which they give up to sampling error.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from steering_toy import LETTERS, TOKENS, Floats, Ints, Toy

from exptilt.tilting import calibration, steering
from exptilt.tilting.weights import normalise

BLOCKS: Final = (2, 4)  # letters at which a block ends, the last block's end aside
KINDS: Final = ("exact", "noisy", "overconfident", "uninformative")


@dataclass(frozen=True)
class Paths:
    """Completions of M populations, as far as they go, [M, n] each.

    The number of the prefix in base 4, its last letter, and which of the N completions it is once it has
    ended, -1 before."""

    number: Ints
    last: Ints
    index: Ints


def prefix_rewards(prompt: Toy, kind: str, rng: np.random.Generator) -> list[Floats]:
    """r of each prefix [4^d] at each block's end: the mean of r given the prefix, that with noise of half a
    deviation, two and a half times that with noise of one, or noise alone."""
    tables = []
    for depth in BLOCKS:
        noise, mean = rng.normal(size=LETTERS**depth), prompt.expected(depth, prompt.reward)
        known = {
            "exact": mean,
            "noisy": mean + 0.5 * noise,
            "overconfident": 2.5 * mean + noise,
            "uninformative": noise,
        }
        tables.append(known[kind])
    return tables


def begin(populations: int, particles: int) -> Paths:
    """Paths without a letter."""
    shape = (populations, particles)
    return Paths(np.zeros(shape, np.int64), np.full(shape, LETTERS), np.full(shape, -1))


def grow(prompt: Toy, paths: Paths, since: int, until: int, rng: np.random.Generator) -> Paths:
    """Draw the letters from `since` to `until` of the paths that go on."""
    number, last, index = paths.number, paths.last, paths.index
    thresholds = np.cumsum(prompt.steps, axis=1)[:, :-1]
    for depth in range(since, until):
        token = (rng.random(number.shape)[..., None] >= thresholds[last]).sum(-1)
        goes_on = index < 0
        ending = goes_on & (token == LETTERS)
        index = np.where(ending, prompt.live[depth][number, 0] if prompt.ends else -1, index)
        goes_on &= token < LETTERS
        if depth == TOKENS - 1:
            whole = prompt.live[depth][number, (token + prompt.ends) % prompt.live[depth].shape[1]]
            index = np.where(goes_on, whole, index)
        number, last = np.where(goes_on, LETTERS * number + token, number), np.where(goes_on, token, last)
        number = np.where(index < 0, number, 0)
    return Paths(number, last, index)


def rewards(prompt: Toy, table: Floats | None, paths: Paths) -> Floats:
    """r of the whole where a path has ended, of the prefix elsewhere, [M, n]."""
    whole = prompt.reward[np.maximum(paths.index, 0)]
    return whole if table is None else np.where(paths.index >= 0, whole, table[paths.number])


def taken(paths: Paths, ancestors: Ints) -> Paths:
    """The paths of the ancestors [M, n]."""
    return Paths(*(np.take_along_axis(a, ancestors, 1) for a in (paths.number, paths.last, paths.index)))


def calibrated(
    others: list[tuple[Toy, list[Floats]]], strength: float, samples: int, rng: np.random.Generator
) -> list[calibration.Potential]:
    """The potential of each block, from some samples of each other prompt."""
    found = [np.empty((0, 3))] * len(BLOCKS)
    for place, (prompt, tables) in enumerate(others):
        paths, since, seen = begin(1, samples), 0, []
        for depth, table in zip(BLOCKS, tables, strict=True):
            paths, since = grow(prompt, paths, since, depth, rng), depth
            seen.append((paths.index[0] < 0, strength * rewards(prompt, table, paths)[0]))
        whole = strength * rewards(prompt, None, grow(prompt, paths, since, TOKENS, rng))[0]
        for block, (live, prefix) in enumerate(seen):
            rows = np.column_stack([prefix, whole, np.full(samples, place)])[live]
            found[block] = np.concatenate([found[block], rows])
    return [calibration.fit(rows[:, 0], rows[:, 1], rows[:, 2].astype(int)) for rows in found]


@dataclass(frozen=True)
class Steered:
    """The law [N] of one draw of a population, log Ẑ of each, and what a population costs: tokens drawn anew,
    rests drawn anew, and prefixes scored."""

    law: Floats
    log_evidence: Floats
    tokens: float
    rests: float
    prefixes: float


def steer(
    prompt: Toy,
    tables: list[Floats],
    potentials: list[calibration.Potential],
    strength: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Steered:
    """Populations [M, n] that begin as n samples; copies draw the rest anew, but the first of each."""
    count = shape[0]
    population, paths, since = steering.start(*shape), begin(*shape), 0
    costs = np.zeros(3)
    for depth, table, potential in zip(BLOCKS, tables, potentials, strict=True):
        paths, since = grow(prompt, paths, since, depth, rng), depth
        ended = paths.index >= 0
        line = np.full(count, potential.intercept), np.full(count, potential.slope)
        log_psi = steering.log_potentials(strength * rewards(prompt, table, paths), ended, *line)
        steered = line[1] != 0
        population, ancestors = steering.resample(population, log_psi, rng.random(count), steered)
        costs[2] += (~ended).sum()
        paths = taken(paths, ancestors)
        again = (np.diff(ancestors, axis=1, prepend=-1) == 0) & (paths.index < 0)
        rest = prompt.expected(depth, prompt.lengths) - depth
        costs[:2] += rest[paths.number[again]].sum(), again.sum()
    paths = grow(prompt, paths, since, TOKENS, rng)
    log_psi = strength * rewards(prompt, None, paths)
    weights = normalise(steering.log_weights(population, log_psi))
    law = np.bincount(paths.index.ravel(), weights.ravel() / count, minlength=len(prompt.p))
    return Steered(law, steering.log_evidence(population, log_psi), *(costs / count).tolist())
