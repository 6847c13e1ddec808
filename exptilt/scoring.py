"""Values for what exists already: a file of records is read into the pool, scored, and written anew.

Records hold a prompt and a generated text that begins with it. Those of one prompt are its samples, in
the file's order, so a scored file serves as a pool of samples with unknown p0.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from exptilt import ids, models, plan, pool, schemas, store
from exptilt.config import Scoring
from exptilt.errors import ConfigError, PromptError
from exptilt.refs import RewardsRef, SamplesRef, ShardRef
from exptilt.rewards import RewardSpec
from exptilt.stages.tables import read
from exptilt.summary import mean_and_error

Records = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where a file's texts are scored: a device, and the pool."""

    device: str
    save_directory: str

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
    def n_tasks(self) -> int:
        """Tasks of a run: load, one per shard and value, save."""
        return len(self.shards) * len(self.rewards) + 2

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
    means: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    shards: int = 0


@lru_cache(maxsize=2)
def prepare(config: Scoring) -> ScorePlan:
    """Check `config` and its file, and put the file's texts into the pool.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    store.check_writable(config.save_directory)
    device = plan.resolve_device(config.device)
    base = models.base_model(config.basemodel)
    specs = plan.resolve_values(config.values, base, device, config.dtype)
    records = read_records(config.file)
    _refuse_taken(records, specs, config)
    table = _table(records, config)
    plan.load_rewards(specs, device)
    return ScorePlan(
        config=config,
        workplace=Bench(device=device, save_directory=config.save_directory),
        rewards=specs,
        shards=tuple(_shards(table, config, len(specs))),
        records=len(records),
    )


def read_records(file: str) -> Records:
    """The records of a .json, .jsonl or .parquet file."""
    try:
        return READERS[Path(file).suffix.lower()](file)
    except KeyError:
        raise ConfigError(f"--file {file}: must end in {', '.join(READERS)}") from None
    except OSError as error:
        raise ConfigError(f"--file {file}: {error.strerror or error}") from error
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"--file {file}: cannot be read ({str(error).splitlines()[0]})") from error


def _json(file: str) -> Records:
    records = json.loads(Path(file).read_bytes())
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("not a list of records")
    return records


def _jsonl(file: str) -> Records:
    return [json.loads(line) for line in Path(file).read_bytes().split(b"\n") if line.strip()]


def _parquet(file: str) -> Records:
    return pl.read_parquet(file).to_dicts()


READERS = {".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}


def _refuse_taken(records: Records, specs: tuple[RewardSpec, ...], config: Scoring) -> None:
    if not records:
        raise ConfigError(f"--file {config.file}: it holds no records")
    taken = [spec.value for spec in specs if any(spec.value in record for record in records)]
    if taken and not config.output:
        raise ConfigError(f"--file {config.file} has {taken[0]!r} already: give an --output, or NAME=VALUE")


def _table(records: Records, config: Scoring) -> pl.DataFrame:
    """One row per record: prompt_id, prompt, sample_index, completion."""
    seen: Counter[str] = Counter()
    rows = []
    for number, record in enumerate(records):
        prompt, text = (record.get(c) for c in (config.prompt_column, config.generated_column))
        if not isinstance(prompt, str) or not isinstance(text, str) or not text.startswith(prompt):
            raise PromptError(
                f"--file {config.file}: record {number} needs {config.prompt_column!r} and "
                f"{config.generated_column!r}, a text that begins with it"
            )
        rows.append((ids.prompt_ids([prompt])[0], prompt, seen[prompt], text[len(prompt) :]))
        seen[prompt] += 1
    return pl.DataFrame(rows, schema=["prompt_id", "prompt", "sample_index", "completion"], orient="row")


def _shards(table: pl.DataFrame, config: Scoring, n_values: int) -> list[SamplesRef]:
    prompts = table.unique("prompt_id", maintain_order=True).select("prompt_id", "prompt")
    prompts = prompts.with_row_index("prompt_index").with_columns(source=pl.lit(Path(config.file).stem))
    auto = plan.shard_size(prompts.height, n_values)
    parts = list(prompts.iter_slices(auto if config.shard_size == "auto" else config.shard_size))
    return [_shard(part, table, index, len(parts), config) for index, part in enumerate(parts)]


def _shard(prompts: pl.DataFrame, table: pl.DataFrame, index: int, of: int, config: Scoring) -> SamplesRef:
    prompts = prompts.select(*schemas.PROMPTS).cast(schemas.PROMPTS)
    samples = prompts.select("prompt_id").join(table, on="prompt_id", how="left", maintain_order="left")
    unknown = [pl.lit(None).alias(c) for c in ("n_tokens", "finish_reason", "logprob", "nll", "seed")]
    samples = samples.with_columns(unknown).select(*schemas.SAMPLES).cast(schemas.SAMPLES)
    paths = [_put(config, name, t) for name, t in (("prompts", prompts), ("samples", samples))]
    key = ids.content_key(prompts["prompt_id"].to_list())
    shard = ShardRef(index=index, of=of, prompts=paths[0], key=key, n_prompts=prompts.height)
    return SamplesRef(shard=shard, parts=(paths[1],), cached=True, tokens=0, seconds=0.0)


def _put(config: Scoring, name: str, table: pl.DataFrame) -> str:
    """The pool entry of a table of the file, under its content."""
    key = ids.content_key(table.to_dict(as_series=False))
    path = pool.place(config.save_directory, "imported" if name == "samples" else name, key)
    if pool.find(path) is None:
        pool.put(path, {name: table}, {"file": Path(config.file).name})
    return path


def save(scored_plan: ScorePlan, scored: list[RewardsRef]) -> Scores:
    """Write the records with their new values; the old file stays until the new one is whole."""
    config = scored_plan.config
    records = read_records(config.file)
    table = _table(records, config)
    target = config.output or config.file
    result = Scores(file=target, records=len(records), shards=len(scored_plan.shards))
    for spec in scored_plan.rewards:
        mine = [ref for ref in scored if ref.value == spec.value]
        rewards = pl.concat([read(part, "rewards") for ref in mine for part in ref.parts])
        joined = table.join(rewards, on=["prompt_id", "sample_index"], how="left", maintain_order="left")
        numbers = joined["reward"].to_list()
        for record, number in zip(records, numbers, strict=True):
            record[spec.value] = number
        result.means[spec.value] = mean_and_error(np.array(numbers))
        result.reused[spec.value] = sum(ref.cached for ref in mine)
    store.write_bytes(target, _encoded(records, target))
    return result


def _encoded(records: Records, target: str) -> bytes:
    match Path(target).suffix.lower():
        case ".parquet":
            return store.parquet_bytes(pl.DataFrame(records, infer_schema_length=None))
        case ".jsonl":
            return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
        case _:
            return (json.dumps(records, indent=4, ensure_ascii=False) + "\n").encode()
