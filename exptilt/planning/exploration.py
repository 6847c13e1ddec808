"""Plans for sweeps and palettes: a run's own pool, or a scored file in its place."""

import dataclasses
import math
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import polars as pl

from exptilt import rewards
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.lambda_grid import Lam
from exptilt.config.settings import MCAligned
from exptilt.data import file_names, record_files, records
from exptilt.data.record_files import Block
from exptilt.data.records import Unusables
from exptilt.errors import ConfigError
from exptilt.models.devices import Devices
from exptilt.models.reference import ModelRef
from exptilt.planning import import_file, plan
from exptilt.planning.notes import notes
from exptilt.planning.plan import Plan
from exptilt.rewards import RewardSpec
from exptilt.run import current, in_a_new_run
from exptilt.stages.blocks import blocks_of
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import RewardsRef, ScoredRef
from exptilt.stages.tables import prompts_of
from exptilt.storage import schemas, write_checks

NUMBER: Final = "reward of "  # begins a column's name, so that a value may be called as any other column
NUMERAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@in_a_new_run
def prepare(config: Sweep | Palette, workers: int = 0) -> Plan:
    """The plan of `config`: shards to draw and score, or those of its file, which are done.

    `workers` are as in `plan.prepare`.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    if not config.file:
        return plan.prepare(config, workers)
    write_checks.check_writable(config.save_directory)
    left_out: dict[int, str] = {}
    scored = list(_scored(config, left_out))
    recipe = Recipe(
        config=_as_of_file(config, max(n for _, n in scored)),
        p0=None,
        rewards=_specs(config.columns, config.file),
        devices=Devices(["cpu"]),
        name=file_names.short_name(config.file),
        run=current(),
    )
    return Plan(
        recipe=recipe,
        notes=tuple(notes(recipe, null={}, unsteady=())),
        shards=tuple(ref.samples.shard for ref, _ in scored),
        skipped=left_out,
        truncated=(),
        scored=tuple(ref for ref, _ in scored),
    )


def _as_of_file(config: Sweep | Palette, nsamples: int) -> Sweep | Palette:
    """`config` as the manifest has it: the file's name and samples in place of the base model's."""
    values = tuple(rewards.expand(config.value, config.basemodel, config.data))
    update = {"nsamples": nsamples, "data": config.file, "basemodel": "unknown", "value": values}
    return config.model_copy(update=update)


def _scored(config: Sweep | Palette, left_out: Unusables) -> Iterator[tuple[ScoredRef, int]]:
    """The file's shards, their rewards in the pool, an entry per value; and the most samples of a prompt."""
    tables = _with_numbers(config, left_out)
    for samples, rows in import_file.shards(tables, config.file, config.shard_size, config.save_directory):
        refs, blocks = [], blocks_of(prompts_of(samples.shard))
        for value in config.columns:
            table = rows.select(
                "prompt_id", "sample_index", value=pl.lit(value), reward=pl.col(NUMBER + value)
            )
            table = table.select(*schemas.REWARDS).cast(schemas.REWARDS)
            parts = import_file.keep_blocks(table, blocks, "rewards", config.file, config.save_directory)
            refs.append(RewardsRef(value=value, parts=parts, cached=True, seconds=0.0))
        yield ScoredRef(samples=samples, rewards=tuple(refs)), int(rows["sample_index"].to_numpy().max()) + 1


def _with_numbers(config: Sweep | Palette, left_out: Unusables) -> Iterator[pl.DataFrame]:
    """The file's rows with a column of numbers per value."""
    columns = (config.prompt_column, config.generated_column, config.columns)
    skip = left_out if config.on_long_prompt == "skip" else None
    for block, table in records.tables(config.file, *columns, unusable=skip):
        kept = table["record"].to_list()
        numbers = {NUMBER + value: _numbers(block, kept, value, config.file) for value in config.columns}
        yield table.with_columns(**numbers)


def _numbers(block: Block, kept: list[int], value: str, data: str) -> pl.Series:
    """A value's numbers in the records that are kept; ConfigError where one has no finite number there."""
    numbers = []
    for number in kept:
        given: Any = block.records[number - block.number].get(value)
        if not _is_finite(given):
            raise ConfigError(
                f"{block.named(number)} has {reprlib.repr(given)} for the value {value!r}, not a "
                f"finite number; python flows/score.py --file {data} --value {value} adds values"
            )
        numbers.append(float(given))
    return pl.Series(numbers, dtype=pl.Float64)


def _is_finite(given: Any) -> bool:
    """Whether `given` is a number that 64 bits hold, or the text of one, as .csv files have them."""
    if isinstance(given, str):
        return bool(NUMERAL.fullmatch(given)) and math.isfinite(float(given))
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return is_number and -sys.float_info.max <= given <= sys.float_info.max


def _specs(values: list[str], file: str) -> tuple[RewardSpec, ...]:
    """The values as the manifest names them: by the file's name and content."""
    name, revision = record_files.name_of(file), f"sha256:{record_files.digest(file)}"
    model = ModelRef(name=name, source=name, revision=revision)
    return tuple(RewardSpec(value=value, kind="file", model=model) for value in values)


def missing_of(shards: Iterable[ScoredRef | AllMissing]) -> tuple[MissingPrompt, ...]:
    """The prompts that are left out since they failed, by index."""
    missing = [p for s in shards for p in (s.missing if isinstance(s, AllMissing) else s.samples.missing)]
    return tuple(sorted(missing, key=lambda prompt: prompt.prompt_index))


def tilted(whole: Plan, lam: Lam) -> Plan:
    """The plan of the data set at one λ, over the shards of `whole`."""
    config = whole.recipe.config
    shared: dict[str, Any] = config.model_dump(include=set(MCAligned.model_fields))
    one = MCAligned.model_construct(**{**shared, "lam": tuple(lam.values())})
    return dataclasses.replace(whole, recipe=dataclasses.replace(whole.recipe, config=one))
