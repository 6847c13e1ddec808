"""Steering: particles that grow block by block, weighted by what their prefixes promise. numpy only.

Sequential Monte Carlo with potentials ψ_k (Del Moral 2004; Naesseth, Lindsten & Schön 2019, Elements of
Sequential Monte Carlo, arXiv 1903.04797): after block k a particle that goes on has ψ_k = exp(a_k + b_k R), R
the reward Σ_v λ_v r_v of its prefix, one that has ended ψ_k = exp(R) of the whole, as all have after the last
block; ψ_0 = 1. Weights grow by ψ_k/ψ_{k−1}. Where their ESS falls under N/2 the particles are resampled.
What comes out follows p_λ ∝ p0 exp(R) as N grows, whatever a_k and b_k are, and the mean of Ẑ is Z = E exp(R)
under p0. P prompts, N particles of each.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exptilt.tilting.resampling import Picks, systematic
from exptilt.tilting.weights import Floats, normalise

LEAST_ESS: Final = 0.5  # of the particles
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Population:
    """The particles' weights, as far as they are settled.

    settled: log ψ at which each particle was last resampled, 0 before, [P, N]; its log weight is log ψ_k less
        that, so that without resampling it is exp(R) of the whole to the last bit.
    log_evidence: log Ẑ up to there, [P].
    """

    settled: Floats
    log_evidence: Floats


def start(prompts: int, particles: int) -> Population:
    """P populations of N particles without a token."""
    return Population(np.zeros((prompts, particles)), np.zeros(prompts))


def log_potentials(reward: Floats, ended: Flags, intercept: Floats, slope: Floats) -> Floats:
    """log ψ_k of each particle.

    Args:
        reward: R of the prefix, or of the whole where it has ended, in nats, [P, N].
        ended: which particles have ended, [P, N]; all after the last block.
        intercept: a_k of each prompt, [P].
        slope: b_k of each prompt, [P].

    Returns:
        Log potentials [P, N], in nats.
    """
    promised = np.asarray(intercept)[:, None] + np.asarray(slope)[:, None] * reward
    return np.asarray(np.where(ended, reward, promised), dtype=np.float64)


def log_weights(population: Population, log_potential: Floats) -> Floats:
    """The particles' log weights [P, N] at log potentials [P, N]; after the last block, those of the draw."""
    return log_potential - population.settled


def log_evidence(population: Population, log_potential: Floats) -> Floats:
    """log Ẑ [P] at log potentials [P, N]: of all resamplings before, and of the weights now."""
    return population.log_evidence + _log_mean(log_weights(population, log_potential))


def resample(
    population: Population, log_potential: Floats, uniforms: Floats, steered: Flags
) -> tuple[Population, Picks]:
    """Resample the populations whose ESS is under N/2, systematically.

    Args:
        population: the particles before.
        log_potential: log ψ_k, [P, N].
        uniforms: one in [0, 1) for each population, [P].
        steered: which populations may be resampled after this block, [P].

    Returns:
        The populations after, and which particle each is a copy of, [P, N].
    """
    log_weight = log_weights(population, log_potential)
    particles = log_weight.shape[1]
    uneven = 1 / (normalise(log_weight) ** 2).sum(axis=1) < LEAST_ESS * particles
    rows = np.flatnonzero(uneven & steered)
    ancestors = np.tile(np.arange(particles, dtype=np.int32), (len(log_weight), 1))
    ancestors[rows] = systematic(log_weight[rows], uniforms[rows, None], particles)
    settled, evidence = population.settled.copy(), population.log_evidence.copy()
    settled[rows] = np.take_along_axis(log_potential[rows], ancestors[rows], axis=1)
    evidence[rows] += _log_mean(log_weight[rows])
    return replace(population, settled=settled, log_evidence=evidence), ancestors


def _log_mean(log_weight: Floats) -> Floats:
    """log of the mean of exp(log weight) [P] over the last axis."""
    top = log_weight.max(axis=-1)
    return np.asarray(top + np.log(np.exp(log_weight - top[..., None]).mean(axis=-1)), dtype=np.float64)
