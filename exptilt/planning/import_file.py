"""A file's texts as entries of the pool, shard by shard."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

import polars as pl

from exptilt.stages.references import SamplesRef, ShardRef
from exptilt.stages.shards import shard_size
from exptilt.storage import keys, pool, schemas
from exptilt.storage.spooled_tables import Spool

UNKNOWN: Final = ("n_tokens", "finish_reason", "logprob", "nll", "seed")


def shards(
    tables: Iterable[pl.DataFrame], file: str, asked: int | Literal["auto"], save_directory: str
) -> Iterator[tuple[SamplesRef, pl.DataFrame]]:
    """The samples of the file's prompts, shard by shard, with the rows of `tables` that they came from."""
    rows, prompts = Spool(), 0
    for table in tables:
        rows.append(table)
        prompts = max(prompts, int(table["place"].to_numpy().max()) + 1)
    size = shard_size(prompts, asked)
    of, sorted_out = -(-prompts // size), Spool()
    for table in rows.tables():
        for (index,), part in table.group_by(pl.col("place") // size):
            sorted_out.append(part, group=int(str(index)))
    for index in range(of):
        part = pl.concat(sorted_out.tables(group=index)).sort("place", "sample_index")
        yield _shard(part, index, of, file, save_directory), part


def _shard(rows: pl.DataFrame, index: int, of: int, file: str, save_directory: str) -> SamplesRef:
    prompts = rows.unique("place", keep="first", maintain_order=True)
    prompts = prompts.with_columns(prompt_index="place", source=pl.lit(Path(file).stem))
    prompts = prompts.select(*schemas.PROMPTS).cast(schemas.PROMPTS)
    samples = rows.with_columns([pl.lit(None).alias(c) for c in UNKNOWN])
    samples = samples.select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    paths = [keep(t, name, file, save_directory) for name, t in (("prompts", prompts), ("samples", samples))]
    key = keys.content_key(prompts["prompt_id"].to_list())
    shard = ShardRef(index=index, of=of, prompts=paths[0], key=key, n_prompts=prompts.height)
    return SamplesRef(shard=shard, parts=(paths[1],), cached=True, tokens=0, seconds=0.0)


def keep(table: pl.DataFrame, name: str, file: str, save_directory: str) -> str:
    """The pool entry of a table of the file."""
    stage = "prompts" if name == "prompts" else "imported"
    return pool.keep(save_directory, stage, name, table, {"file": Path(file).name})
