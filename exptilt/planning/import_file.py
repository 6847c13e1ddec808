"""A file's texts as entries of the pool, shard by shard."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import numpy as np
import polars as pl

from exptilt.data import file_names, record_files
from exptilt.stages.blocks import Block, blocks_of, numbers_of
from exptilt.stages.references import Parts, SamplesRef, ShardRef
from exptilt.stages.shards import rows_of, shard_size
from exptilt.storage import pool, schemas
from exptilt.storage.spooled_tables import Spool

UNKNOWN: Final = ("n_tokens", "finish_reason", "logprob", "nll", "seed", "tokens", "reasoning")


def shards(
    tables: Iterable[pl.DataFrame],
    file: str,
    asked: int | Literal["auto"],
    save_directory: str,
    workers: int = 0,
) -> Iterator[tuple[SamplesRef, pl.DataFrame]]:
    """The samples of a file's prompts, shard by shard.

    Args:
        tables: the file's records.
        file: its name.
        asked: prompts per shard, or "auto".
        save_directory: where the pool lies.
        workers: of a cluster; 0 where the run has none.

    Yields:
        Samples, with the rows of `tables` that they came from.
    """
    rows, prompts = Spool(), 0
    for table in tables:
        if table.height:
            rows.append(table)
            prompts = max(prompts, int(table["place"].to_numpy().max()) + 1)
    size = shard_size(prompts, math.ceil(rows.height / prompts), workers or 1, asked)
    heights = rows_of(Counter(numbers_of(range(prompts)).tolist()), size)
    ends, sorted_out = np.cumsum(heights), Spool()
    for table in rows.tables():
        shard = pl.Series(np.searchsorted(ends, table["place"].to_numpy(), side="right"))
        for (index,), part in table.with_columns(shard=shard).group_by("shard"):
            sorted_out.append(part.drop("shard"), group=int(str(index)))
    for index in range(len(heights)):
        part = pl.concat(sorted_out.tables(group=index)).sort("place", "sample_index")
        yield _shard(part, index, len(heights), file, save_directory), part


def _shard(rows: pl.DataFrame, index: int, of: int, file: str, save_directory: str) -> SamplesRef:
    prompts = rows.unique("place", keep="first", maintain_order=True)
    prompts = prompts.with_columns(prompt_index="place", source=pl.lit(file_names.short_name(file)))
    prompts = prompts.select(*schemas.PROMPTS).cast(schemas.PROMPTS)
    samples = rows.with_columns([pl.lit(None).alias(c) for c in UNKNOWN])
    samples = samples.select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    path = keep(prompts, "prompts", file, save_directory)
    shard = ShardRef(index=index, of=of, prompts=path, n_prompts=prompts.height)
    parts = keep_blocks(samples, blocks_of(prompts), "samples", file, save_directory)
    return SamplesRef(shard=shard, parts=parts, cached=True, tokens=0, seconds=0.0)


def keep_blocks(
    table: pl.DataFrame, blocks: Iterable[Block], name: str, file: str, save_directory: str
) -> Parts:
    """The pool entries of a shard's table, one for each block."""
    ids = {block.number: block.prompt_ids for block in blocks}
    return {
        number: (keep(table.filter(pl.col("prompt_id").is_in(mine)), name, file, save_directory),)
        for number, mine in ids.items()
    }


def keep(table: pl.DataFrame, name: str, file: str, save_directory: str) -> str:
    """The pool entry of a table of the file."""
    stage = "prompts" if name == "prompts" else "imported"
    return pool.keep(save_directory, stage, name, table, {"file": record_files.name_of(file)})
