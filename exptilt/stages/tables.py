"""Reading what earlier stages left in the pool, in one order: the shard's prompts, samples by index."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.errors import StorageError
from exptilt.stages.references import DrawsRef, RewardsRef, SamplesRef, ShardRef, flat
from exptilt.storage import pool

Made = pool.Made
ORIGIN: Final = ("p0", "name", "seed", "file")


def read(path: str, name: str) -> pl.DataFrame:
    """Table `name` of the pool entry at `path`."""
    return described(path).table(name)


def described(path: str) -> pool.Entry:
    """The pool entry at `path`, which an earlier step has made or verified."""
    entry = pool.described(path)
    if entry is None:
        raise StorageError(f"{path} was complete and is damaged now; run again to remake it")
    return entry


def origin_of(part: str) -> dict[str, Any]:
    """What an entry notes of where its samples came from: p0, its model's name and the seed, or a file.

    Whatever is made of the entry notes the same.
    """
    meta = described(part).meta
    return {name: meta[name] for name in ORIGIN if name in meta}


def prompts_of(shard: ShardRef) -> pl.DataFrame:
    """A shard's prompts, in order."""
    return read(shard.prompts, "prompts")


def samples_of(ref: SamplesRef, order: pl.DataFrame) -> pl.DataFrame:
    """The samples of a shard: prompts in `order`, samples by index (see order_of)."""
    return in_order([read(part, "samples") for part in flat(ref.parts)], order)


def rewards_of(ref: RewardsRef, order: pl.DataFrame) -> pl.DataFrame:
    """One value's rewards of the samples, in the order of samples_of."""
    return in_order([read(part, "rewards") for part in flat(ref.parts)], order)


def order_of(prompts: pl.DataFrame, samples: SamplesRef, n: int) -> pl.DataFrame:
    """The order of a shard's tables.

    Args:
        prompts: the shard's prompts.
        samples: which samples they have.
        n: samples per prompt, where samples.counts does not say otherwise.

    Returns:
        prompt_id, place, and n, how many samples the prompt has.
    """
    order = even_order(prompts, n)
    if not samples.counts:
        return order
    return order.drop("n").join(read(samples.counts, "counts"), on="prompt_id", maintain_order="left")


def even_order(prompts: pl.DataFrame, n: int) -> pl.DataFrame:
    """The order of prompts that have n samples each."""
    return prompts.select("prompt_id").with_row_index("place").with_columns(n=pl.lit(n))


def in_order(parts: Sequence[pl.DataFrame], order: pl.DataFrame) -> pl.DataFrame:
    """The rows of the prompts that `order` has, the first of several for one sample."""
    table = pl.concat(parts)
    if _is_in_order(table, order):
        return table
    first = table.lazy().unique(["prompt_id", "sample_index"], keep="first", maintain_order=True)
    kept = first.join(order.lazy(), on="prompt_id").filter(pl.col("sample_index") < pl.col("n"))
    return kept.sort("place", "sample_index").drop("place", "n").collect()


def _is_in_order(table: pl.DataFrame, order: pl.DataFrame) -> bool:
    """Whether a table has the samples of `order` and no others, one after the other."""
    counts = order["n"].to_numpy().astype(np.int64)
    if table.height != counts.sum():
        return False
    names = order["prompt_id"][np.repeat(np.arange(counts.size), counts)]
    indices = np.arange(table.height) - np.repeat(np.cumsum(counts) - counts, counts)
    return table["prompt_id"].equals(names) and np.array_equal(table["sample_index"].to_numpy(), indices)


def draws_of(ref: DrawsRef, name: str) -> pl.DataFrame:
    """The draws or the diagnostics of a shard, prompts in the shard's order."""
    return pl.concat([read(path, name) for path in ref.paths])


def digests(parts: Sequence[str]) -> list[str]:
    """The recorded SHA-256 of every file of some entries."""
    return [said["sha256"] for part in parts for said in described(part).files.values()]


def matrix_of(
    samples: SamplesRef, scored: Sequence[RewardsRef], n: int
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """The rewards of a shard as a matrix.

    Args:
        samples: the shard's samples.
        scored: the rewards of each value [V].
        n: samples per prompt, where samples.counts does not say otherwise.

    Returns:
        Prompt ids [P], samples per prompt [P] and rewards [S, V], in the order of samples_of.
    """
    return matrix([flat(ref.parts) for ref in scored], order_of(prompts_of(samples.shard), samples, n))


def matrix(
    rewards: Sequence[Sequence[str]], order: pl.DataFrame
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """The same of entries [V] of rewards, for the prompts of `order` that they have."""
    tables = [in_order([read(part, "rewards") for part in parts], order) for parts in rewards]
    counts = tables[0].group_by("prompt_id", maintain_order=True).len()
    columns = [table["reward"].to_numpy() for table in tables]
    return (
        counts["prompt_id"].to_list(),
        counts["len"].to_numpy().astype(np.int64),
        np.stack(columns, axis=-1),
    )


def by_count(
    counts: NDArray[np.int64], rows: NDArray[np.float64]
) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
    """Prompts with equally many samples together: their places, and their rows [P, N, …] of `rows`."""
    starts = np.cumsum(counts) - counts
    for n in np.unique(counts):
        places = np.flatnonzero(counts == n)
        yield places.tolist(), rows[starts[places, None] + np.arange(n)]
