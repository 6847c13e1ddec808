"""Values for what exists already: a file of records is read into the pool, scored, and written anew.

A file so scored is a pool that sweeps and palettes take their samples and rewards from.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from exptilt import devices, models, plan, pool, records, store
from exptilt.config import Scoring
from exptilt.errors import ConfigError
from exptilt.refs import RewardsRef, SamplesRef
from exptilt.rewards import RewardSpec
from exptilt.stages.tables import read
from exptilt.summary import Estimate, estimate_of
from exptilt.untrusted import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where a file's texts are scored: devices, and the pool."""

    devices: tuple[str, ...]
    save_directory: str
    allow_missing: bool = False  # every record of a file gets its number

    def path(self, stage: str, *parts: str) -> str:
        """The pool's path of `stage`."""
        return pool.place(self.save_directory, stage, *parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """A checked file: its records' texts in the pool, shard by shard, and the values to add."""

    config: Scoring
    workplace: Bench
    rewards: tuple[RewardSpec, ...]
    shards: tuple[SamplesRef, ...]
    records: int

    @property
    def opening(self) -> str:
        """What is about to happen, in one line."""
        values = ", ".join(spec.value for spec in self.rewards)
        return f"{self.records:,} records of {self.config.file} in {len(self.shards)} shards: adding {values}"


@dataclass(slots=True, kw_only=True)
class Scores:
    """A scored file: where it is, and the mean of each value with its standard error."""

    file: str
    records: int
    means: dict[str, Estimate] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    shards: int = 0


@lru_cache(maxsize=2)
def prepare(config: Scoring) -> ScorePlan:
    """Check `config` and its file, and put the file's texts into the pool.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    store.check_writable(config.save_directory)
    at = devices.resolve(config.device)
    base = models.base_model(config.basemodel)
    specs = plan.resolve_values(config.values, base, at[0], config.dtype)
    found = records.read(config.file)
    _refuse_taken(found, specs, config)
    table = _table(found, config)
    size = plan.shard_size(table["prompt_id"].n_unique(), config.shard_size)
    plan.load_rewards(specs, at[0])
    return ScorePlan(
        config=config,
        workplace=Bench(devices=at, save_directory=config.save_directory),
        rewards=specs,
        shards=tuple(records.shards(table, config.file, size, config.save_directory)),
        records=len(found),
    )


def _table(found: Records, config: Scoring) -> pl.DataFrame:
    return records.table_of(found, config.file, config.prompt_column, config.generated_column)


def _refuse_taken(found: Records, specs: tuple[RewardSpec, ...], config: Scoring) -> None:
    taken = [spec.value for spec in specs if any(spec.value in record for record in found)]
    if taken and not config.output:
        raise ConfigError(f"--file {config.file} has {taken[0]!r} already: give an --output, or NAME=VALUE")


def save(scored_plan: ScorePlan, scored: list[RewardsRef]) -> Scores:
    """Write the records with their new values; the old file stays until the new one is whole."""
    config = scored_plan.config
    found = records.read(config.file)
    table = _table(found, config)
    target = config.output or config.file
    result = Scores(file=target, records=len(found), shards=len(scored_plan.shards))
    for spec in scored_plan.rewards:
        mine = [ref for ref in scored if ref.value == spec.value]
        rewards = pl.concat([read(part, "rewards") for ref in mine for part in ref.parts])
        joined = table.join(rewards, on=["prompt_id", "sample_index"], how="left", maintain_order="left")
        numbers = joined["reward"].to_list()
        for record, number in zip(found, numbers, strict=True):
            record[spec.value] = number
        result.means[spec.value] = estimate_of(np.array(numbers))
        result.reused[spec.value] = sum(ref.cached for ref in mine)
    store.write_bytes(target, _encoded(found, target))
    return result


def _encoded(found: Records, target: str) -> bytes:
    match Path(target).suffix.lower():
        case ".parquet":
            return store.parquet_bytes(pl.DataFrame(found, infer_schema_length=None))
        case ".jsonl":
            return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in found).encode()
        case _:
            return (json.dumps(found, indent=4, ensure_ascii=False) + "\n").encode()
