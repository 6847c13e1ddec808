"""Refined completions of a shard as the data set has them, and the paths of the chains that led to them."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from exptilt.stages.references import DrawsRef, Ranges
from exptilt.stages.tables import draws_of, read
from exptilt.tilting.weights import Floats

CHAIN = ["prompt_id", "draw_index"]


def rows_of(shard: DrawsRef, moves: int) -> pl.DataFrame:
    """The completions that `moves` moves led to, a column for each value, in the order of the draws."""
    assert shard.refined
    table = pl.concat([read(path, "chains") for path in shard.refined.paths[-1]])
    values = [
        pl.col("rewards").list.get(place).alias(scored.value) for place, scored in enumerate(shard.rewards)
    ]
    texts = table.select(*CHAIN, "sample_index", "completion", "n_tokens", "finish_reason", "nll", "tokens")
    numbers = table.select(*values, "log_weight", moves=pl.lit(moves, pl.Int32), accepted=pl.col("accepted"))
    return pl.concat([texts, numbers], how="horizontal")


def with_levels(levels: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The levels of every prompt and value with those of its refined completions `rows`."""
    values = levels["value"].unique().to_list()
    long = rows.select("prompt_id", *values).unpivot(
        values, index="prompt_id", variable_name="value", value_name="refined"
    )
    means = long.group_by("prompt_id", "value").agg(pl.col("refined").mean())
    means = means.with_columns(pl.col("value").cast(levels.schema["value"]))
    return levels.join(means, on=["prompt_id", "value"], maintain_order="left")


def first_paths(shard: DrawsRef) -> pl.DataFrame:
    """Σ λ r of the first chains before their moves and after each, averaged over the draws of every prompt:
    prompt_id, path."""
    refined = shard.refined
    assert refined
    begun = [read(path, "chains") for path in refined.steered] or [draws_of(shard, "draws")]
    return _means(pl.concat(begun), refined.paths)


def second_paths(shard: DrawsRef, lam: Floats) -> pl.DataFrame:
    """The same of the second chains, from where they turn from 2 λ to λ."""
    assert shard.refined
    turned = pl.concat([read(path, "chains") for path in shard.refined.above[-1]])
    rewards = np.array(turned["rewards"].to_list()).reshape(turned.height, len(lam))
    return _means(turned.with_columns(log_weight=rewards @ lam), shard.refined.back)


def _means(start: pl.DataFrame, ranges: Ranges) -> pl.DataFrame:
    columns = [start["log_weight"].to_numpy()[:, None], *map(_traces, ranges)]
    paths = np.concatenate(columns, axis=1)
    places = (
        start.select("prompt_id").with_row_index("place").group_by("prompt_id", maintain_order=True).all()
    )
    means = [paths[mine].mean(axis=0).tolist() for mine in places["place"].to_list()]
    return pl.DataFrame({"prompt_id": places["prompt_id"], "path": means})


def _traces(paths: Sequence[str]) -> Floats:
    """Σ λ r after each move of a range [S, moves]."""
    return np.concatenate([np.array(read(path, "chains")["trace"].to_list()) for path in paths])
