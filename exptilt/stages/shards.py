"""Parts of a shard as shards of their own: some of its prompts, or all but those that failed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import polars as pl

from exptilt import ids, pool
from exptilt.narrow import Missing, NothingLeft
from exptilt.plan import Recipe
from exptilt.refs import SamplesRef, ShardRef
from exptilt.stages.tables import read


def part_of(recipe: Recipe, whole: ShardRef, rows: Sequence[dict[str, Any]]) -> ShardRef:
    """The prompts `rows` of a shard."""
    return some(recipe, whole, [row["prompt_id"] for row in rows])


def without(recipe: Recipe, whole: ShardRef, missing: Sequence[Missing]) -> ShardRef:
    """The shard without the prompts `missing`. Raises NothingLeft where these are all."""
    gone = {prompt.prompt_index for prompt in missing}
    rows = read(whole.prompts, "prompts").filter(~pl.col("prompt_index").is_in(list(gone)))
    if rows.is_empty():
        raise NothingLeft(missing)
    return some(recipe, whole, rows["prompt_id"].to_list())


def left(recipe: Recipe, samples: SamplesRef, missing: Sequence[Missing]) -> SamplesRef:
    """The samples of the prompts that are not `missing`, which is noted. Raises NothingLeft where none is."""
    gone = (*samples.missing, *missing)
    return dataclasses.replace(samples, shard=without(recipe, samples.shard, gone), missing=gone)


def some(recipe: Recipe, whole: ShardRef, prompt_ids: Sequence[str]) -> ShardRef:
    """The prompts `prompt_ids` of a shard, in its order."""
    table = read(whole.prompts, "prompts").filter(pl.col("prompt_id").is_in(list(prompt_ids)))
    config = recipe.config
    path = pool.keep(config.save_directory, "prompts", "prompts", table, {"data": config.data})
    key = ids.content_key(table["prompt_id"].to_list())
    return dataclasses.replace(whole, prompts=path, key=key, n_prompts=table.height)
