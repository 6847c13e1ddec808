"""Steered draws in the pool: an entry for each block of prompts and population."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from exptilt.config.settings import MCAligned
from exptilt.stages import steer
from exptilt.stages.blocks import Block, blocks_of
from exptilt.stages.chain_states import Kernel
from exptilt.stages.drawn_states import states_at
from exptilt.stages.references import DrawsRef
from exptilt.stages.tables import Made, digests, even_order, in_order, origin_of, prompts_of, read
from exptilt.storage import keys, pool, schemas

POPULATIONS: Final = 4  # of a prompt whose log Ẑ are compared
Entries = list[tuple[pool.Entry, bool]]  # and whether the pool had each


def steered_draws(kernel: Kernel, draws: DrawsRef, prompt_ids: Sequence[str], population: int = 0) -> Entries:
    """Steered draws of some prompts of a shard: an entry for each block that has some. `draws` are those of
    the whole shard, whose samples calibrate, and are the population 0."""
    blocks = blocks_of(prompts_of(draws.samples.shard))
    chosen = [(block, [name for name in block.prompt_ids if name in prompt_ids]) for block in blocks]
    return [_entry(kernel, draws, block, mine, population) for block, mine in chosen if mine]


def other_populations(kernel: Kernel, draws: DrawsRef, prompt_ids: Sequence[str]) -> Entries:
    """The populations beside the first of some prompts of a shard, which share no sample with it."""
    return [
        entry
        for number in range(1, POPULATIONS)
        for entry in steered_draws(
            replace(kernel, name=f"{kernel.name}/population {number}"), draws, prompt_ids, number
        )
    ]


def _entry(
    kernel: Kernel, draws: DrawsRef, block: Block, prompt_ids: Sequence[str], population: int
) -> tuple[pool.Entry, bool]:
    parts = [draws.samples.parts[block.number], *(ref.parts[block.number] for ref in draws.rewards)]
    of = digests([part for each in parts for part in each])
    said = {"of": of, "shard": block.key, "steered": list(prompt_ids), **steer.key_of(kernel)}
    path = kernel.recipe.workspace.path("steered", keys.content_key(said))
    return pool.compute_once(path, partial(_made, kernel, draws, block, prompt_ids, population))


def _made(kernel: Kernel, draws: DrawsRef, block: Block, prompt_ids: Sequence[str], population: int) -> Made:
    config, number, began = kernel.recipe.config, block.number, time.perf_counter()
    assert isinstance(config, MCAligned)
    order = even_order(block.prompts, config.nsamples)
    samples = in_order([read(part, "samples") for part in draws.samples.parts[number]], order)
    kept = samples.select(*schemas.SAMPLE).with_columns(draw_index=0)
    table = states_at(kernel, draws, kept, number)
    tables, tokens = steer.steered(kernel, table, prompt_ids, population)
    meta = {"tokens": tokens, "seconds": time.perf_counter() - began}
    return tables, {**origin_of(draws.samples.parts[number][0]), **meta}
