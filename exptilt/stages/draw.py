"""Draw: the samples of some blocks in one go, each block's kept in the pool."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from exptilt.conversation import prompt_of
from exptilt.engines import base, registry
from exptilt.errors import StorageError
from exptilt.models.devices import on_one_of
from exptilt.run import current
from exptilt.stages import failures
from exptilt.stages.blocks import Block
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.tables import Made
from exptilt.storage import filesystem, keys, pool, schemas


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A block, or a part of one, whose samples from `have` on are not in the pool yet.

    Attributes:
        block: the prompts.
        home: the folder of the whole block, which holds the note of prompts that failed.
        have: how many samples there are.
        alone: whether a draw failed at it before, so that it is tried without others.
    """

    block: Block
    home: str
    have: int
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Samples as an engine gave them, with their prompts and seeds; `seconds` and what the engine noted."""

    rows: pl.DataFrame
    seconds: float
    notes: dict[str, Any]


def folder(recipe: Recipe, block: Block) -> str:
    """Where the pool keeps a block's samples."""
    assert recipe.p0  # a file's samples are not drawn
    key = keys.content_key({"p0": recipe.p0.identity, "seed": recipe.config.seed, "prompts": block.key})
    return recipe.workspace.path("samples", key)


def noted(home: str) -> set[str]:
    """The ids of a block's prompts at which a draw failed before."""
    try:
        return set(map(str, filesystem.read_json(filesystem.join(home, pool.FAILED))))
    except (StorageError, TypeError):
        return set()


def together(recipe: Recipe, group: Sequence[Lacking], n: int) -> list[tuple[pool.Entry, bool]]:
    """The entries of blocks that have equally many samples, drawn up to n together.

    Args:
        recipe: p0, and where the pool lies.
        group: the blocks, and what each has.
        n: samples per prompt.

    Returns:
        The entries, and whether the pool had each.

    Raises:
        PromptsFailed: for the prompts at which the engine fails. What was drawn of the others is in the pool
            then, and the next try takes up there.
    """
    paths = [_path(recipe, each.block, each.have, n) for each in group]
    return pool.compute_together(
        paths, lambda places: _draw_all(recipe, [(place, group[place]) for place in places], n)
    )


def _path(recipe: Recipe, block: Block, first: int, last: int) -> str:
    return filesystem.join(folder(recipe, block), f"{first}-{last}")


def _draw_all(recipe: Recipe, group: Sequence[tuple[int, Lacking]], n: int) -> Iterator[tuple[int, Made]]:
    """Each block's draw, by its place; where the engine fails, that of halves of the prompts."""
    rows = [row for _, each in group for row in each.block.prompts.to_dicts()]
    have = group[0][1].have
    draws, failed = failures.narrowed(rows, lambda part: _draw(recipe, part, have, n))
    missing = {row["prompt_id"] for row, _ in failed}
    for place, each in group:
        if missing.isdisjoint(each.block.prompt_ids):
            yield place, _entry(recipe, each.block, draws)
        else:
            _keep_rest(recipe, each, missing, draws, n)
    if failed:
        raise _failed(failed, draws) from failed[0][1]


def _failed(failed: Sequence[tuple[dict[str, Any], Exception]], draws: Sequence[_Drawn]) -> PromptsFailed:
    """The prompts that failed, and what was drawn of the others."""
    prompts = [failures.missing_prompt(row, "drawing", error) for row, error in failed]
    tokens = sum(_counts(each.rows)["tokens"] for each in draws)
    seconds, drawn = sum(each.seconds for each in draws), sum(each.rows.height for each in draws)
    return PromptsFailed(prompts, tokens, seconds, drawn)


def _keep_rest(recipe: Recipe, each: Lacking, missing: set[str], draws: Sequence[_Drawn], n: int) -> None:
    """Note the prompts of a block that failed, and keep what was drawn of the others."""
    ids = set(each.block.prompt_ids)
    filesystem.write_json(filesystem.join(each.home, pool.FAILED), sorted(noted(each.home) | ids & missing))
    rest = each.block.only(ids - missing)
    if rest.prompt_ids:
        pool.compute_once(_path(recipe, rest, each.have, n), lambda: _entry(recipe, rest, draws))


def _entry(recipe: Recipe, block: Block, draws: Sequence[_Drawn]) -> Made:
    """A block's part of some draws; it took its tokens' share of their time."""
    assert recipe.p0
    ids = block.prompt_ids
    parts = [drawn.rows.filter(pl.col("prompt_id").is_in(ids)) for drawn in draws]
    rows = pl.concat(parts)
    shares = (
        drawn.seconds * part.height / drawn.rows.height for drawn, part in zip(draws, parts, strict=True)
    )
    meta = {**_counts(rows), **_origin(recipe), "seconds": sum(shares), **draws[0].notes}
    return {"samples": rows.select(*schemas.SAMPLES).cast(schemas.SAMPLES)}, meta


def _origin(recipe: Recipe) -> dict[str, Any]:
    assert recipe.p0
    return {"p0": recipe.p0.identity, "name": recipe.p0.model.name, "seed": recipe.config.seed}


def _draw(recipe: Recipe, prompts: Sequence[dict[str, Any]], first: int, last: int) -> _Drawn:
    p0, prompt_ids = recipe.p0, [row["prompt_id"] for row in prompts]
    assert p0
    seeds = keys.seeds_for(recipe.config.seed, prompt_ids, first, last)

    def draw(device: str) -> tuple[list[list[base.Sample]], float, dict[str, Any]]:
        engine = registry.load(p0, device)
        meter = current().meter
        began, since = time.perf_counter(), meter.drawn_on(device)
        found = engine.draw([prompt_of(row) for row in prompts], seeds, recipe.batch_size)
        seconds = time.perf_counter() - began
        meter.drawn(device, since, seeds.size, sum(map(_tokens, found)), seconds)
        return found, seconds, dict(engine.notes)

    drawn, seconds, notes = on_one_of(recipe.devices, "draw", 1, draw)
    rows = [sample for row in drawn for sample in row]
    key_columns = {
        "prompt_id": pl.Series(np.repeat(prompt_ids, last - first)),
        "sample_index": pl.Series(np.tile(np.arange(first, last), len(prompt_ids))),
        "seed": pl.Series(seeds.ravel()),
    }
    return _Drawn(rows=_table(rows).with_columns(**key_columns), seconds=seconds, notes=notes)


def _table(samples: Sequence[base.Sample]) -> pl.DataFrame:
    """Samples [S] as a table."""
    columns = dict(zip(base.Sample._fields, zip(*samples, strict=True), strict=True))
    types = {name: schemas.SAMPLES[name] for name in ("logprob", "nll", "reasoning")}  # null in some rows
    return pl.DataFrame({**columns, "tokens": _lists(columns["tokens"])}, schema_overrides=types)


def _lists(rows: Sequence[Sequence[int] | None]) -> pl.Series:
    """Tokens [S][*] as a column, which polars would make a column of each row for.

    From buffers: pyarrow loads pandas to look at any other array.
    """
    tokens = [row or () for row in rows]
    flat = np.fromiter(itertools.chain.from_iterable(tokens), dtype=np.uint32)
    ends = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    known = np.packbits(np.array([row is not None for row in rows], dtype=bool), bitorder="little")
    values = pa.Array.from_buffers(pa.uint32(), flat.size, [None, pa.py_buffer(flat)])
    parts = [pa.py_buffer(known), pa.py_buffer(ends)]
    lists = pa.Array.from_buffers(pa.large_list(pa.uint32()), len(rows), parts, children=[values])
    return pl.Series(lists, dtype=schemas.SAMPLES["tokens"])


def _tokens(samples: Sequence[base.Sample]) -> int:
    """Tokens drawn, end tokens among them."""
    return sum(sample.n_tokens + (sample.finish_reason == "stop") for sample in samples)


def _counts(samples: pl.DataFrame) -> dict[str, int]:
    """Tokens drawn, end tokens among them; texts that took a pass of their own; texts that were cut."""
    tokens = int(samples["n_tokens"].sum()) + int((samples["finish_reason"] == "stop").sum())
    return {"tokens": tokens, **{name: int(samples[name].sum()) for name in ("rescored", "cut")}}
