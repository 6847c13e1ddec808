"""Generate: completions of a shard's prompts, only those that the pool does not hold yet."""

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from exptilt import ids, pool, schemas, store
from exptilt.devices import on_one_of
from exptilt.engines import base
from exptilt.plan import Recipe
from exptilt.refs import SamplesRef, ShardRef
from exptilt.stages.tables import Made, read


def generate(recipe: Recipe, shard: ShardRef, first: int = 0, last: int | None = None) -> SamplesRef:
    """Samples first..last-1 of every prompt of `shard` (0..n-1): what the pool has, the rest drawn now."""
    folder, n = _folder(recipe, shard), last or recipe.config.nsamples
    parts, have = _parts(folder, first, n)
    tokens, seconds = 0, 0.0
    if have < n:
        path = store.join(folder, f"{have}-{n}")
        entry, cached = pool.compute_once(path, lambda: _draw(recipe, shard, have, n))
        parts.append(path)
        if not cached:
            tokens, seconds = entry.meta["tokens"], entry.meta["seconds"]
    return SamplesRef(shard=shard, parts=tuple(parts), cached=tokens == 0, tokens=tokens, seconds=seconds)


def all_drawn(recipe: Recipe, shards: Sequence[ShardRef]) -> bool:
    """Whether the pool holds the n samples of every prompt, so that p0 need not be at hand."""
    n = recipe.config.nsamples
    return all(_parts(_folder(recipe, shard), 0, n)[1] >= n for shard in shards)


def _folder(recipe: Recipe, shard: ShardRef) -> str:
    assert recipe.p0  # a file's samples are not drawn
    key = ids.content_key({"p0": recipe.p0.identity, "seed": recipe.config.seed, "prompts": shard.key})
    return recipe.path("samples", key)


def _parts(folder: str, have: int, n: int) -> tuple[list[str], int]:
    """The complete entries that cover samples have, have + 1, … without a gap, and how far they reach."""
    found = [re.fullmatch(r"(\d+)-(\d+)", name) for name in store.names(folder)]
    ranges = sorted((int(m[1]), -int(m[2])) for m in found if m)
    parts = []
    for first, last in ranges:
        path = store.join(folder, f"{first}-{-last}")
        if first == have < n and pool.find(path):
            parts.append(path)
            have = -last
    return parts, have


def _draw(recipe: Recipe, shard: ShardRef, first: int, last: int) -> Made:
    p0, table = recipe.p0, read(shard.prompts, "prompts")
    assert p0
    prompt_ids = table["prompt_id"].to_list()
    seeds = ids.seeds_for(recipe.config.seed, prompt_ids, first, last)
    batch = 0 if recipe.config.batch_size == "auto" else recipe.config.batch_size

    def draw(device: str) -> tuple[list[list[base.Sample]], dict[str, Any]]:
        engine = base.load(p0, device)
        began = time.perf_counter()
        found = engine.draw(table["prompt"].to_list(), seeds, batch)
        return found, {"seconds": time.perf_counter() - began, **engine.notes}

    drawn, notes = on_one_of(recipe.devices, "draw", 1, draw)
    samples = pl.DataFrame(
        [sample for row in drawn for sample in row], schema=base.Sample._fields, orient="row"
    )
    keys = {
        "prompt_id": np.repeat(prompt_ids, last - first),
        "sample_index": np.tile(np.arange(first, last), len(prompt_ids)),
        "seed": seeds.ravel(),
    }
    samples = samples.with_columns(**{k: pl.Series(v) for k, v in keys.items()})
    samples = samples.select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    tokens = sum(s.n_tokens + (s.finish_reason == "stop") for row in drawn for s in row)
    rescored = sum(sample.rescored for row in drawn for sample in row)
    meta = {"tokens": tokens, "rescored": rescored, "p0": p0.identity, **notes}
    return {"samples": samples}, meta
