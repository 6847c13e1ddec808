"""The rewards of the beginnings of a block's samples, by which steering is calibrated, once for every λ."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.run import current
from exptilt.stages.blocks import Block
from exptilt.stages.chain_states import Kernel, prefixes
from exptilt.stages.drawn_states import all_states
from exptilt.stages.references import DrawsRef
from exptilt.stages.tables import Made, digests, origin_of
from exptilt.storage import keys, pool, schemas
from exptilt.tilting.weights import Floats

RULES: Final = "beginnings-1"  # others are other entries
Beginning = tuple[str, tuple[int, ...]]  # a prompt, and the first tokens of a completion of it


def ends(kernel: Kernel) -> range:
    """The tokens at which a block ends, the last one aside."""
    config, p0 = kernel.recipe.config, kernel.recipe.p0
    assert isinstance(config, MCAligned)
    assert p0
    return range(config.block_tokens, p0.max_new_tokens, config.block_tokens)


def beginnings(kernel: Kernel, draws: DrawsRef, block: Block) -> tuple[pool.Entry, bool]:
    """The entry of a block's beginnings, and whether the pool had it; `draws` are those of its shard."""
    path = kernel.recipe.workspace.path("beginnings", keys.content_key(_key(kernel, draws, block)))
    return pool.compute_once(path, partial(_made, kernel, draws, block))


def rewards_in(entry: pool.Entry) -> dict[Beginning, Floats]:
    """The rewards [V] of each beginning that an entry has."""
    rows = entry.table("beginnings").select("prompt_id", "tokens", "rewards").iter_rows()
    return {(prompt_id, tuple(tokens)): np.array(rewards) for prompt_id, tokens, rewards in rows}


def _key(kernel: Kernel, draws: DrawsRef, block: Block) -> dict[str, Any]:
    """What the beginnings and their rewards depend on, which λ is no part of."""
    recipe = kernel.recipe
    config = recipe.config
    assert isinstance(config, MCAligned)
    assert recipe.p0
    return {
        "rules": RULES,
        "of": digests(draws.samples.parts[block.number]),
        "shard": block.key,
        "p0": recipe.p0.identity,
        "n": config.nsamples,
        "block_tokens": config.block_tokens,
        "rewards": [[spec.value, spec.identity] for spec in recipe.rewards],
    }


def _made(kernel: Kernel, draws: DrawsRef, block: Block) -> Made:
    began, samples = time.perf_counter(), all_states(kernel, draws, block)
    table = pl.concat([pl.DataFrame(schema=schemas.BEGINNINGS), *_scored(kernel, samples)])
    meta = {"tokens": 0, "seconds": time.perf_counter() - began}
    return {"beginnings": table}, {**origin_of(draws.samples.parts[block.number][0]), **meta}


def _scored(kernel: Kernel, samples: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The beginnings at each block's end of the samples that go on behind it, each once."""
    for end in ends(kernel):
        current().check()
        live = samples.filter(pl.col("tokens").list.len() > end)
        begun = live.select("prompt_id", pl.col("tokens").list.head(end)).unique(maintain_order=True)
        if begun.height:
            _, rewards = prefixes(kernel, begun["prompt_id"].to_list(), begun["tokens"].to_list())
            yield begun.with_columns(rewards=pl.Series(rewards.tolist())).cast(schemas.BEGINNINGS)
