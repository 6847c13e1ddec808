"""Values for what exists already: a file of records is read into the pool, scored, and written anew.

A file so scored is a pool that sweeps and palettes take their samples and rewards from.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt import added_columns, devices, files, imported, models, plan, pool, records, store, trial
from exptilt.config import Scoring
from exptilt.errors import ConfigError, RefusedError
from exptilt.refs import RewardsRef, SamplesRef
from exptilt.rewards import RewardSpec
from exptilt.stages.tables import described, read
from exptilt.summary import Estimate, estimate_of


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
    digest: str

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
    cut: dict[str, int] = field(default_factory=dict)


@lru_cache(maxsize=2)
def prepare(config: Scoring) -> ScorePlan:
    """Check `config`, its file and that its target can be written, and put the file's texts into the pool.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    at = devices.resolve(config.device)
    base = models.base_model(config.basemodel)
    specs = plan.resolve_values(config.values, base, at[0], config.dtype)
    _check_places(config)
    digest = store.digest(config.file)
    added_columns.rehearse(config.file, _target(config), [spec.value for spec in specs])
    shards, count, opened = list[SamplesRef](), 0, False
    made = imported.shards(_tables(config, specs), config.file, config.shard_size, config.save_directory)
    for samples, rows in made:
        shards.append(samples)
        count += rows.height
        opened = opened or plan.is_opened(base, rows["prompt"].to_list())
    specs = tuple(replace(spec, opened=opened and spec.kind == "perplexity") for spec in specs)
    plan.load_rewards(specs, at[0])
    trial.try_rewards(specs, at[0], _cases(shards))
    return ScorePlan(
        config=config,
        workplace=Bench(devices=at, save_directory=config.save_directory),
        rewards=specs,
        shards=tuple(shards),
        records=count,
        digest=digest,
    )


def _cases(shards: Sequence[SamplesRef]) -> list[trial.Case]:
    """Records to try: the first one of the first shard, of one in the middle, and of the last."""
    firsts = {place: read(shards[place].parts[0], "samples")["completion"][0] for place in _places(shards)}
    prompts = {place: read(shards[place].shard.prompts, "prompts").row(0, named=True) for place in firsts}
    return [trial.Case(prompts[i]["prompt_index"], prompts[i]["prompt"], text) for i, text in firsts.items()]


def _places(shards: Sequence[SamplesRef]) -> set[int]:
    return {0, len(shards) // 2, len(shards) - 1}


def _target(config: Scoring) -> str:
    return config.output or config.file


def _check_places(config: Scoring) -> None:
    """Raise ConfigError or StorageError where the file's ending is unknown or a place cannot be written."""
    files.check_records("--file", config.file)
    files.check_records("--output", _target(config))
    store.check_writable(config.save_directory)
    store.check_replaceable(_target(config))


def _tables(config: Scoring, specs: Sequence[RewardSpec]) -> Iterator[pl.DataFrame]:
    """The file's rows; ConfigError where a value would be written over."""
    values = [spec.value for spec in specs]
    for block, table in records.tables(config.file, config.prompt_column, config.generated_column, values):
        taken = [value for value in values if any(value in record for record in block)]
        if taken and not config.output:
            raise ConfigError(
                f"--file {config.file} has {taken[0]!r} already: give an --output, or NAME=VALUE"
            )
        yield table


def save(scored_plan: ScorePlan, scored: Sequence[RewardsRef]) -> Scores:
    """Write the records with their new values; the old file stays until the new one is whole."""
    config = scored_plan.config
    if store.digest(config.file) != scored_plan.digest:
        raise RefusedError(f"{config.file} changed while it was scored; run again")
    target, values = _target(config), [spec.value for spec in scored_plan.rewards]
    result = Scores(file=target, records=scored_plan.records, shards=len(scored_plan.shards))
    with tempfile.TemporaryFile() as f, tempfile.TemporaryFile() as g:
        numbers = _gathered(scored_plan, scored, f)
        rows = _in_order(scored_plan, numbers, g)
        added_columns.write(
            config.file,
            target,
            lambda first, last: dict(zip(values, rows[first:last].T.tolist(), strict=True)),
        )
        for value, row in zip(values, numbers, strict=True):
            result.means[value] = estimate_of(row)
            mine = [ref for ref in scored if ref.value == value]
            result.reused[value] = sum(ref.cached for ref in mine)
            result.cut[value] = sum(described(p).meta.get("cut", 0) for ref in mine for p in ref.parts)
    return result


def _gathered(scored_plan: ScorePlan, scored: Sequence[RewardsRef], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [V, S] in the order of the pool's samples, kept in `f`."""
    with store.clear_errors(tempfile.gettempdir(), "write"):
        for spec in scored_plan.rewards:
            for part in (part for ref in scored if ref.value == spec.value for part in ref.parts):
                f.write(read(part, "rewards")["reward"].to_numpy().tobytes())
        f.flush()
    shape = (len(scored_plan.rewards), scored_plan.records)
    return np.memmap(f, np.float64, "r", shape=shape)


def _counts(samples: SamplesRef) -> list[int]:
    """How many samples each prompt of a shard has."""
    (part,) = samples.parts
    return read(part, "samples").group_by("prompt_id", maintain_order=True).len()["len"].to_list()


def _in_order(scored_plan: ScorePlan, numbers: NDArray[np.float64], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [S, V] in the order of the file's records, kept in `f`."""
    config = scored_plan.config
    starts = np.cumsum([0, *(n for samples in scored_plan.shards for n in _counts(samples))])
    for _, table in records.tables(config.file, config.prompt_column, config.generated_column):
        at = starts[table["place"].to_numpy()] + table["sample_index"].to_numpy()
        with store.clear_errors(tempfile.gettempdir(), "write"):
            f.write(numbers[:, at].T.tobytes())
            f.flush()
    return np.memmap(f, np.float64, "r", shape=numbers.shape[::-1])
