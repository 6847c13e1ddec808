"""Shards: how large they are, and parts of one as shards of their own."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.tables import read
from exptilt.storage import keys, pool

FEWEST_SHARDS, MOST_SHARDS, PROMPTS_PER_SHARD = 20, 100, 128  # with many values a run has about 1,000 tasks
LARGEST_SHARD = 2_000  # prompts; memory holds a shard


def part_of(recipe: Recipe, whole: ShardRef, rows: Sequence[dict[str, Any]]) -> ShardRef:
    """The prompts `rows` of a shard."""
    return some(recipe, whole, [row["prompt_id"] for row in rows])


def without(recipe: Recipe, whole: ShardRef, missing: Sequence[MissingPrompt]) -> ShardRef:
    """The shard without the prompts `missing`. Raises AllMissing where these are all."""
    indices = [prompt.prompt_index for prompt in missing]
    rows = read(whole.prompts, "prompts").filter(~pl.col("prompt_index").is_in(indices))
    if rows.is_empty():
        raise AllMissing(missing)
    return some(recipe, whole, rows["prompt_id"].to_list())


def samples_without(recipe: Recipe, samples: SamplesRef, missing: Sequence[MissingPrompt]) -> SamplesRef:
    """The samples of the prompts that are not `missing`, which is noted. Raises AllMissing where none is."""
    both = (*samples.missing, *missing)
    return dataclasses.replace(samples, shard=without(recipe, samples.shard, both), missing=both)


def some(recipe: Recipe, whole: ShardRef, prompt_ids: Sequence[str]) -> ShardRef:
    """The prompts `prompt_ids` of a shard, in its order."""
    table = read(whole.prompts, "prompts").filter(pl.col("prompt_id").is_in(list(prompt_ids)))
    config = recipe.config
    path = pool.keep(config.save_directory, "prompts", "prompts", table, {"data": config.data})
    key = keys.content_key(table["prompt_id"].to_list())
    return dataclasses.replace(whole, prompts=path, key=key, n_prompts=table.height)


def shard_size(n_prompts: int, asked: int | Literal["auto"] = "auto") -> int:
    """Prompts per shard: as asked, or what makes 20 to 100 shards of at most 2,000 prompts. The number of
    values must not count: another one would find no shard of the pool."""
    if asked != "auto":
        return asked
    wanted = math.ceil(n_prompts / PROMPTS_PER_SHARD)
    return min(math.ceil(n_prompts / min(max(wanted, FEWEST_SHARDS), MOST_SHARDS)), LARGEST_SHARD)
