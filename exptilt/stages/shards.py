"""Shards: how large they are, and parts of one as shards of their own."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from exptilt.stages.blocks import BLOCK, blocks_of, width_of
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.tables import prompts_of
from exptilt.storage import pool

FEWEST_SHARDS, MOST_SHARDS, PROMPTS_PER_SHARD = 20, 100, 128  # with many values a run has about 1,000 tasks
LARGEST_SHARD = 2_048  # prompts; memory holds a shard
FULL = 256  # sequences; fewer leave a device idle
SHARDS_PER_DEVICE = 8  # where there are several, so that the last ones to end wait little


def without(recipe: Recipe, whole: ShardRef, missing: Sequence[MissingPrompt]) -> ShardRef:
    """The shard without the prompts `missing`. Raises AllMissing where these are all."""
    indices = [prompt.prompt_index for prompt in missing]
    rows = prompts_of(whole).filter(~pl.col("prompt_index").is_in(indices))
    if rows.is_empty():
        raise AllMissing(missing)
    return some(recipe, whole, rows["prompt_id"].to_list())


def samples_without(recipe: Recipe, samples: SamplesRef, missing: Sequence[MissingPrompt]) -> SamplesRef:
    """The samples of the prompts that are not `missing`, which is noted. Raises AllMissing where none is."""
    both = (*samples.missing, *missing)
    shard = without(recipe, samples.shard, both)
    left = {block.number for block in blocks_of(prompts_of(shard))}
    parts = {number: parts for number, parts in samples.parts.items() if number in left}
    return dataclasses.replace(samples, shard=shard, parts=parts, missing=both)


def samples_of_some(recipe: Recipe, samples: SamplesRef, prompt_ids: Sequence[str]) -> SamplesRef:
    """The samples of the prompts `prompt_ids` of a shard."""
    shard = some(recipe, samples.shard, prompt_ids)
    numbers = {block.number for block in blocks_of(prompts_of(shard))}
    parts = {number: parts for number, parts in samples.parts.items() if number in numbers}
    return dataclasses.replace(samples, shard=shard, parts=parts)


def some(recipe: Recipe, whole: ShardRef, prompt_ids: Sequence[str]) -> ShardRef:
    """The prompts `prompt_ids` of a shard, in its order."""
    table = prompts_of(whole).filter(pl.col("prompt_id").is_in(list(prompt_ids)))
    config = recipe.config
    path = pool.keep(config.save_directory, "prompts", "prompts", table, {"data": config.data})
    return dataclasses.replace(whole, prompts=path, n_prompts=table.height)


def shard_size(n_prompts: int, n: int, n_devices: int = 1, asked: int | Literal["auto"] = "auto") -> int:
    """Prompts that a shard takes, in small blocks: as many as asked, or what makes 20 to 100 shards.

    Fewer where a shard would not fill a batch, and enough to keep several devices busy to the end.

    Args:
        n_prompts: of the whole run.
        n: samples of each.
        n_devices: that draw at once.
        asked: prompts per shard.
    """
    if asked != "auto":
        return math.ceil(asked / BLOCK) * BLOCK
    wanted = min(max(math.ceil(n_prompts / PROMPTS_PER_SHARD), FEWEST_SHARDS), MOST_SHARDS)
    filled = math.ceil(n_prompts * n / FULL)
    shards = max(min(wanted, filled), SHARDS_PER_DEVICE * n_devices if n_devices > 1 else 1)
    return min(math.ceil(math.ceil(n_prompts / BLOCK) / shards) * BLOCK, LARGEST_SHARD)


def rows_of(blocks: Mapping[int, int], size: int) -> list[int]:
    """Prompts of each shard.

    Args:
        blocks: the prompts that each block has.
        size: prompts per shard, were none left out; a shard takes whole blocks until it has as many.
    """
    rows, width = list[int](), size
    for number in sorted(blocks):
        if width >= size:
            rows, width = [*rows, 0], 0
        rows[-1] += blocks[number]
        width += width_of(number)
    return rows
