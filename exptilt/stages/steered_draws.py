"""Steered draws in the pool: an entry for each block of prompts and population."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from exptilt.stages import steer
from exptilt.stages.beginnings import beginnings, rewards_in
from exptilt.stages.blocks import Block, blocks_of
from exptilt.stages.chain_states import Kernel
from exptilt.stages.drawn_states import all_states
from exptilt.stages.references import DrawsRef
from exptilt.stages.tables import Made, digests, origin_of, prompts_of
from exptilt.storage import keys, pool

POPULATIONS: Final = 4  # of a prompt whose log Ẑ are compared
Entries = list[tuple[pool.Entry, bool]]  # and whether the pool had each


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """By what a shard's particles are calibrated.

    Attributes:
        draws: the shard's, with their samples and rewards.
        blocks: the shard's.
        beginnings: those of the samples of each block.
    """

    draws: DrawsRef
    blocks: Sequence[Block]
    beginnings: Entries


def calibration_of(kernel: Kernel, draws: DrawsRef) -> Calibration:
    """By what the particles of a shard are calibrated, the same for each λ and population."""
    blocks = blocks_of(prompts_of(draws.samples.shard))
    begun = [beginnings(kernel, draws, block) for block in blocks]
    return Calibration(draws=draws, blocks=blocks, beginnings=begun)


def steered_draws(
    kernel: Kernel, calibration: Calibration, prompt_ids: Sequence[str], population: int = 0
) -> Entries:
    """Steered draws of some prompts of a shard: an entry for each block that has some. The population 0 is
    the shard's own samples."""
    chosen = [[name for name in block.prompt_ids if name in prompt_ids] for block in calibration.blocks]
    return [_entry(kernel, calibration, place, mine, population) for place, mine in enumerate(chosen) if mine]


def other_populations(kernel: Kernel, calibration: Calibration, prompt_ids: Sequence[str]) -> Entries:
    """The populations beside the first of some prompts of a shard, which share no sample with it."""
    return [
        entry
        for number in range(1, POPULATIONS)
        for entry in steered_draws(
            replace(kernel, name=f"{kernel.name}/population {number}"), calibration, prompt_ids, number
        )
    ]


def _entry(
    kernel: Kernel, calibration: Calibration, place: int, prompt_ids: Sequence[str], population: int
) -> tuple[pool.Entry, bool]:
    block, draws = calibration.blocks[place], calibration.draws
    parts = [draws.samples.parts[block.number], *(ref.parts[block.number] for ref in draws.rewards)]
    of = digests([part for each in parts for part in each])
    said = {"of": of, "shard": block.key, "steered": list(prompt_ids), **steer.key_of(kernel)}
    path = kernel.recipe.workspace.path("steered", keys.content_key(said))
    return pool.compute_once(path, partial(_made, kernel, calibration, place, prompt_ids, population))


def _made(
    kernel: Kernel, calibration: Calibration, place: int, prompt_ids: Sequence[str], population: int
) -> Made:
    began, draws, block = time.perf_counter(), calibration.draws, calibration.blocks[place]
    table = all_states(kernel, draws, block)
    begun = rewards_in(calibration.beginnings[place][0])
    tables, tokens = steer.steered(kernel, table, begun, prompt_ids, population)
    meta = {"tokens": tokens, "seconds": time.perf_counter() - began}
    return tables, {**origin_of(draws.samples.parts[block.number][0]), **meta}
