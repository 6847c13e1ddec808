"""Plans for sweeps and palettes: a run's own pool, or a scored file in its place."""

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from exptilt import plan, records, schemas, store
from exptilt.config import MCAligned
from exptilt.errors import ConfigError
from exptilt.explore import Palette, Sweep
from exptilt.models import ModelRef
from exptilt.plan import Plan, Recipe
from exptilt.refs import RewardsRef, SamplesRef, ScoredRef
from exptilt.rewards import RewardSpec
from exptilt.untrusted import Records
from exptilt.vectors import Lam


@lru_cache(maxsize=4)
def prepare(config: Sweep | Palette) -> Plan:
    """The plan of `config`: shards to draw and score, or those of its file, which are done.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    if not config.file:
        return plan.prepare(config)
    store.check_writable(config.save_directory)
    found = records.read(config.file)
    table = records.table_of(found, config.file, config.prompt_column, config.generated_column)
    columns = {value: _numbers(found, value, config.file) for value in config.columns}
    size = plan.shard_size(table["prompt_id"].n_unique(), config.shard_size)
    shards = records.shards(table, config.file, size, config.save_directory)
    rewarded = table.select("prompt_id", "sample_index").with_columns(**columns)
    most = int(table.group_by("prompt_id").len()["len"].max() or 1)  # type: ignore[arg-type]
    return Plan(
        recipe=Recipe(
            config=config.model_copy(update={"nsamples": most, "data": config.file, "basemodel": "unknown"}),
            p0=None,
            rewards=_specs(config.columns, config.file),
            devices=("cpu",),
            name=Path(config.file).stem,
        ),
        shards=tuple(samples.shard for samples in shards),
        skipped=(),
        truncated=(),
        scored=tuple(_scored(samples, rewarded, config) for samples in shards),
    )


def _numbers(found: Records, value: str, file: str) -> pl.Series:
    """A value's column of the file; ConfigError where a record has no finite number there."""
    for number, record in enumerate(found):
        given = record.get(value)
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not np.isfinite(given):
            raise ConfigError(
                f"--file {file}: record {number} has {given!r} for the value {value!r}, not a finite number; "
                f"python flows/score.py --file {file} --value {value} adds values"
            )
    return pl.Series([float(record[value]) for record in found])


def _specs(values: list[str], file: str) -> tuple[RewardSpec, ...]:
    """The values as the manifest names them: by the file's name and content."""
    name, revision = Path(file).name, f"sha256:{store.sha256(store.read_bytes(file))}"
    model = ModelRef(name=name, source=name, revision=revision)
    return tuple(RewardSpec(value=value, kind="file", model=model) for value in values)


def _scored(samples: SamplesRef, rewarded: pl.DataFrame, config: Sweep | Palette) -> ScoredRef:
    """The shard's rewards in the pool, one entry per value."""
    mine = records.of_shard(samples, rewarded)
    refs = []
    for value in config.columns:
        table = mine.select("prompt_id", "sample_index", value=pl.lit(value), reward=pl.col(value))
        table = table.select(*schemas.REWARDS).cast(schemas.REWARDS)
        path = records.put(table, "rewards", config.file, config.save_directory)
        refs.append(RewardsRef(value=value, parts=(path,), cached=True, seconds=0.0))
    return ScoredRef(samples=samples, rewards=tuple(refs))


def tilted(whole: Plan, lam: Lam) -> Plan:
    """The plan of the data set at one λ, over the shards of `whole`."""
    config = whole.recipe.config
    shared: dict[str, Any] = config.model_dump(include=set(MCAligned.model_fields))
    one = MCAligned.model_construct(**{**shared, "lam": lam})
    return dataclasses.replace(whole, recipe=dataclasses.replace(whole.recipe, config=one))
