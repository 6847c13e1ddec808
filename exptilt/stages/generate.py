"""Generate: completions of a shard's prompts, only those that the pool does not hold yet."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from exptilt.engines import base, registry
from exptilt.errors import RefusedError, StorageError
from exptilt.models.devices import on_one_of
from exptilt.stages import failures
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.shards import part_of, without
from exptilt.stages.tables import Made, read
from exptilt.storage import filesystem, keys, pool, schemas


def generate(recipe: Recipe, shard: ShardRef, first: int = 0, last: int | None = None) -> SamplesRef:
    """Samples first..last-1 of every prompt of `shard` (0..n-1): what the pool has, the rest drawn now.

    Raises PromptsFailed where the engine fails at some prompts; with allow_missing they are left out.
    """
    try:
        return _generate(recipe, shard, first, last)
    except PromptsFailed as error:
        if not recipe.workspace.allow_missing:
            raise
        kept = without(recipe, shard, error.missing)
        return replace(
            _generate(recipe, kept, first, last),
            missing=error.missing,
            tokens=error.tokens,
            seconds=error.seconds,
            cached=error.tokens == 0,
        )


def _generate(recipe: Recipe, shard: ShardRef, first: int, last: int | None) -> SamplesRef:
    folder, n = _folder(recipe, shard), last or recipe.config.nsamples
    parts, have = _parts(folder, first, n)
    tokens, seconds = 0, 0.0
    if have < n:
        path = filesystem.join(folder, f"{have}-{n}")
        entry, cached = pool.compute_once(path, lambda: _made(recipe, shard, have, n))
        parts.append(path)
        if not cached:
            tokens, seconds = entry.meta["tokens"], entry.meta["seconds"]
    return SamplesRef(shard=shard, parts=tuple(parts), cached=tokens == 0, tokens=tokens, seconds=seconds)


def all_drawn(recipe: Recipe, shards: Sequence[ShardRef]) -> bool:
    """Whether the pool says that it holds the n samples of every prompt, so that p0 need not be at hand."""
    n = recipe.config.nsamples
    return all(_parts(_folder(recipe, shard), 0, n, pool.described)[1] >= n for shard in shards)


def drawn_first(recipe: Recipe, shard: ShardRef) -> pl.DataFrame:
    """The first samples of a shard's prompts, with these; empty where the pool's entry is damaged."""
    parts, _ = _parts(_folder(recipe, shard), 0, 1)
    prompts = read(shard.prompts, "prompts")
    if not parts:
        return prompts.clear()
    samples = read(parts[0], "samples").filter(pl.col("sample_index") == 0)
    return samples.join(prompts, on="prompt_id", maintain_order="left")


def _folder(recipe: Recipe, shard: ShardRef) -> str:
    assert recipe.p0  # a file's samples are not drawn
    key = keys.content_key({"p0": recipe.p0.identity, "seed": recipe.config.seed, "prompts": shard.key})
    return recipe.workspace.path("samples", key)


def _parts(
    folder: str, have: int, n: int, find: Callable[[str], pool.Entry | None] = pool.find
) -> tuple[list[str], int]:
    """The complete entries that cover samples have, have + 1, … without a gap, and how far they reach."""
    found = [re.fullmatch(r"(\d+)-(\d+)", name) for name in filesystem.names(folder)]
    ranges = sorted((int(m[1]), -int(m[2])) for m in found if m)
    parts = []
    for first, last in ranges:
        path = filesystem.join(folder, f"{first}-{-last}")
        if first == have < n and (entry := find(path)):
            _check_numbers(entry)
            parts.append(path)
            have = -last
    return parts, have


def _check_numbers(entry: pool.Entry) -> None:
    """Raise RefusedError for samples with NaN, which were written before NaN was an error."""
    if "cut" in entry.meta:
        return
    try:
        entry.table("samples")
    except StorageError as error:
        raise RefusedError(
            f"{entry.path} was drawn by an older version and can't be used ({error}): remove it and run again"
        ) from error


def _made(recipe: Recipe, shard: ShardRef, first: int, last: int) -> Made:
    """A shard's draw; where it fails, by halves of its prompts, each kept in the pool.

    Raises PromptsFailed that names the prompts it fails at alone. What was drawn of the others is then an
    entry too, and the next try takes up there: it knows the prompts that failed by a note in the folder.
    """
    rows = read(shard.prompts, "prompts").to_dicts()
    note = filesystem.join(_folder(recipe, shard), f"{first}-{last}.failed.json")

    def work(part: Sequence[dict[str, Any]]) -> Made:
        if len(part) == shard.n_prompts:
            return _draw(recipe, shard, first, last)
        return _kept(recipe, part_of(recipe, shard, part), first, last, _draw)

    before = _noted(note)
    made, failed = failures.narrowed(rows, work, lambda row: row["prompt_id"] in before)
    if not failed:
        return _joined(made)
    filesystem.write_json(note, [row["prompt_id"] for row, _ in failed])
    missing = [failures.missing_prompt(row, "drawing", error) for row, error in failed]
    if made:
        kept = without(recipe, shard, missing)
        _kept(recipe, kept, first, last, lambda *_: _joined(made))
    spent = {name: sum(meta[name] for _, meta in made) for name in ("tokens", "seconds")}
    raise PromptsFailed(missing, **spent) from failed[0][1]


def _kept(recipe: Recipe, shard: ShardRef, first: int, last: int, draw: Callable[..., Made]) -> Made:
    """The pool's entry of a part of a shard; one that was there cost nothing."""
    path = filesystem.join(_folder(recipe, shard), f"{first}-{last}")
    entry, cached = pool.compute_once(path, lambda: draw(recipe, shard, first, last))
    cost = {"tokens": 0, "seconds": 0.0} if cached else {}
    return {"samples": entry.table("samples")}, {**entry.meta, **cost}


def _noted(note: str) -> set[str]:
    """The ids of prompts that failed before; none where there is no such note."""
    try:
        return set(map(str, filesystem.read_json(note)))
    except (StorageError, TypeError):
        return set()


def _joined(made: Sequence[Made]) -> Made:
    """Parts of a shard, in order, as one entry."""
    names = ("tokens", "seconds", "rescored", "cut")
    counts = {name: sum(meta.get(name, 0) for _, meta in made) for name in names}
    return {"samples": pl.concat([tables["samples"] for tables, _ in made])}, {**made[0][1], **counts}


def _draw(recipe: Recipe, shard: ShardRef, first: int, last: int) -> Made:
    p0, table = recipe.p0, read(shard.prompts, "prompts")
    assert p0
    prompt_ids = table["prompt_id"].to_list()
    seeds = keys.seeds_for(recipe.config.seed, prompt_ids, first, last)

    def draw(device: str) -> tuple[list[list[base.Sample]], dict[str, Any]]:
        engine = registry.load(p0, device)
        began = time.perf_counter()
        found = engine.draw(table["prompt"].to_list(), seeds, recipe.batch_size)
        return found, {"seconds": time.perf_counter() - began, **engine.notes}

    drawn, notes = on_one_of(recipe.devices, "draw", 1, draw)
    rows = [sample for row in drawn for sample in row]
    samples = pl.DataFrame(rows, schema=base.Sample._fields, orient="row")
    key_columns = {
        "prompt_id": np.repeat(prompt_ids, last - first),
        "sample_index": np.tile(np.arange(first, last), len(prompt_ids)),
        "seed": seeds.ravel(),
    }
    table = samples.with_columns(**{k: pl.Series(v) for k, v in key_columns.items()})
    table = table.select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    return {"samples": table}, {**_counted(samples), "p0": p0.identity, **notes}


def _counted(samples: pl.DataFrame) -> dict[str, int]:
    """Tokens drawn, end tokens among them; texts that took a pass of their own; texts that were cut."""
    tokens = int(samples["n_tokens"].sum()) + int((samples["finish_reason"] == "stop").sum())
    return {"tokens": tokens, **{name: int(samples[name].sum()) for name in ("rescored", "cut")}}
