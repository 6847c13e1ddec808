"""An ensemble's rewards, from the rewards of its members that the pool holds: nothing is scored again."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from exptilt.errors import RewardError
from exptilt.rewards import RewardSpec
from exptilt.stages.references import Parts
from exptilt.stages.tables import Made, described, digests, origin_of, read
from exptilt.stages.workspace import Workspace
from exptilt.storage import keys, pool, schemas
from exptilt.tilting.ensemble import RULES, spread, standardised
from exptilt.tilting.weights import Floats

SAMPLE: Final = ["prompt_id", "sample_index"]


def spread_columns(value: str) -> tuple[str, str]:
    """The columns of a data set's diagnostics that hold an ensemble's spread before and after the tilt."""
    return f"spread_before_{value}", f"spread_after_{value}"


def combined(workspace: Workspace, members: Sequence[Parts], spec: RewardSpec) -> tuple[Parts, bool]:
    """The rewards of an ensemble, with the spread across its members, an entry for each block.

    Args:
        workspace: where the pool is.
        members: the entries of each member's rewards [M], block by block.
        spec: of the ensemble.

    Returns:
        The entries, and whether the pool had them all.
    """
    found = {number: _block(workspace, [m[number] for m in members], spec) for number in members[0]}
    paths: Parts = {number: (entry.path,) for number, (entry, _) in found.items()}
    return paths, all(cached for _, cached in found.values())


def _block(workspace: Workspace, parts: Sequence[Sequence[str]], spec: RewardSpec) -> tuple[pool.Entry, bool]:
    key = {"members": [digests(each) for each in parts], "reward": spec.identity, "value": spec.value}
    path = workspace.path("rewards", keys.content_key(key))
    return pool.compute_once(path, partial(_combined, parts, spec))


def ruled(spec: RewardSpec, rewards: Floats) -> tuple[Floats, Floats]:
    """The standardised members [S, M] of their rewards [S, M], and the ensemble's rewards [S]."""
    means, sds = (np.array(column) for column in zip(*((m.mean, m.sd) for m in spec.members), strict=True))
    members = standardised(rewards, means, sds)
    return members, RULES[spec.rule](members, spec.k)


def _combined(parts: Sequence[Sequence[str]], spec: RewardSpec) -> Made:
    rows = _joined(parts)
    rewards = rows.drop(SAMPLE).to_numpy()
    members, numbers = ruled(spec, rewards)
    if not np.isfinite(numbers).all():
        raise RewardError(f"value {spec.value!r}: an sd of its members is too small for their rewards")
    names = rows.select(SAMPLE)
    table = names.with_columns(value=pl.lit(spec.value), reward=pl.Series(numbers))
    spreads = names.with_columns(spread=pl.Series(spread(members)))
    cut = sum(described(part).meta.get("cut", 0) for each in parts for part in each)
    meta = {**origin_of(parts[0][0]), "reward": spec.described, "cut": cut}
    return {"rewards": table.cast(schemas.REWARDS), "spread": spreads}, meta


def _joined(parts: Sequence[Sequence[str]]) -> pl.DataFrame:
    """The samples that every member scored, with a column of each one's rewards."""
    first, *others = (_rewards(each).rename({"reward": str(m)}) for m, each in enumerate(parts))
    for table in others:
        first = first.join(table, on=SAMPLE, maintain_order="left")
    return first


def _rewards(parts: Sequence[str]) -> pl.DataFrame:
    table = pl.concat([read(part, "rewards") for part in parts]).select(*SAMPLE, "reward")
    return table.unique(SAMPLE, keep="first", maintain_order=True)


def spreads(spec: RewardSpec, parts: Sequence[str], order: pl.DataFrame, draws: pl.DataFrame) -> pl.DataFrame:
    """The mean spread of each prompt's samples, and of the draws that are kept.

    Args:
        spec: of the ensemble.
        parts: its entries.
        order: prompt_id and n, the samples of each prompt.
        draws: prompt_id and sample_index of what is kept.

    Returns:
        A row per prompt of `order`: prompt_id, value, before, after.
    """
    table = pl.concat([read(part, "spread") for part in parts]).unique(SAMPLE, keep="first")
    table = table.join(order, on="prompt_id").filter(pl.col("sample_index") < pl.col("n"))
    before = table.group_by("prompt_id").agg(before=pl.col("spread").mean())
    after = draws.join(table, on=SAMPLE).group_by("prompt_id").agg(after=pl.col("spread").mean())
    rows = order.select("prompt_id", value=pl.lit(spec.value))
    return rows.join(before, on="prompt_id", maintain_order="left").join(
        after, on="prompt_id", maintain_order="left"
    )
