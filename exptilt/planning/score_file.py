"""The plan of scoring a file: its records are read into the pool, scored, and the file is written anew.

A file so scored is a pool that sweeps and palettes take their samples and rewards from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import polars as pl

from exptilt import rewards
from exptilt.config.field_types import count_of
from exptilt.config.scoring import Scoring
from exptilt.data import added_columns, files, record_files, records
from exptilt.data.columns import PROMPT
from exptilt.data.records import Shape
from exptilt.engines import registry
from exptilt.errors import ConfigError
from exptilt.models import devices
from exptilt.models.reference import ModelRef
from exptilt.planning import import_file, trial, values
from exptilt.planning.base_model import is_opened
from exptilt.rewards import RewardSpec
from exptilt.run import Run, current, in_a_new_run
from exptilt.stages.references import SamplesRef, flat
from exptilt.stages.tables import prompts_of, read
from exptilt.stages.workspace import Workspace
from exptilt.storage import write_checks
from exptilt.wording import by_kind, counted

NOTE: Final = (
    f"note: no column {PROMPT!r}: what both texts of a pair begin with is its prompt (--prompt-column)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """A checked file: its records' texts in the pool, shard by shard, and the values to add.

    `records` counts those that are scored; a pair is one record, and two samples. `skipped` says why others
    are left out, by their number.
    """

    config: Scoring
    workspace: Workspace
    rewards: tuple[RewardSpec, ...]
    shards: tuple[SamplesRef, ...]
    records: int
    shape: Shape
    digest: str
    skipped: dict[int, str]

    @property
    def run(self) -> Run:
        """The run that the plan is of."""
        return self.workspace.run

    @property
    def columns(self) -> list[str]:
        """The columns to add."""
        return self.shape.columns(spec.value for spec in self.rewards)

    @property
    def opening(self) -> str:
        """The run in one line, printed before it starts, and what there is to know of it, a line for each."""
        records = counted(self.records, "pair" if self.shape.sides else "record")
        line = f"{records} of {self.config.file} in {counted(len(self.shards), 'shard')}"
        line += f": adding {', '.join(self.columns)}{self._manners}"
        return "\n".join([line, *self._notes])

    @property
    def _manners(self) -> str:
        """How each value sees a sample, and whether a server scores it."""
        manners = {spec.value: rewards.manner(spec) for spec in self.rewards}
        how = "; ".join(f"{value}: {manner}" for value, manner in manners.items() if manner)
        return f" ({how})" if how else ""

    @property
    def _notes(self) -> Iterator[str]:
        if self.shape.splits_texts:
            yield NOTE
        if self.skipped:
            yield f"note: {counted(len(self.skipped), 'record')} left out: {by_kind(self.skipped.values())}"
        for spec in self.rewards:
            if spec.group is not None:
                yield f"note: value {spec.value!r} is of {rewards.together(spec.group)}"


@dataclass(frozen=True, slots=True)
class _Texts:
    """What a file's records are in the pool.

    Attributes:
        shards: their texts.
        rows: how many samples they are.
        opened: whether any prompt begins as the base model's tokenizer opens texts.
        skipped: why records are left out, by their number.
    """

    shards: list[SamplesRef]
    rows: int
    opened: bool
    skipped: dict[int, str]


@in_a_new_run
def prepare(config: Scoring, workers: int = 0) -> ScorePlan:
    """Check `config`, its file and that its target can be written, and put the file's texts into the pool.

    `workers` are as in `plan.prepare`.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    at = devices.resolve(config.device)
    base = registry.base_model(config.basemodel)
    _check_places(config)
    skip = config.on_long_prompt == "skip"
    shape = records.shape_of(config.file, config.prompt_column, config.generated_column, skip)
    in_chat, at_once = shape.in_chat, count_of(config.batch_size)
    specs = values.resolve_values(
        config.values, base, at[0], config.dtype, in_chat=in_chat, in_flight=at_once
    )
    columns = shape.columns(spec.value for spec in specs)
    digest = record_files.digest(config.file)
    added_columns.rehearse(record_files.files_of(config.file), config.output, columns)
    texts = _imported(config, shape, columns, base if _need_base(specs) else None, workers)
    specs = tuple(spec.mapped(partial(_opened, opened=texts.opened)) for spec in specs)
    workspace = Workspace(devices=at, save_directory=config.save_directory, run=current())
    _try(specs, workspace, texts.shards)
    return ScorePlan(
        config=config,
        workspace=workspace,
        rewards=specs,
        shards=tuple(texts.shards),
        records=texts.rows // shape.samples,
        shape=shape,
        digest=digest,
        skipped=texts.skipped,
    )


def _need_base(specs: Sequence[RewardSpec]) -> bool:
    return any(rewards.needs_of(spec) == "base model" for spec in values.sources(specs))


def _imported(
    config: Scoring, shape: Shape, columns: Sequence[str], base: ModelRef | None, workers: int
) -> _Texts:
    """The file's texts, put into the pool; `base` is the model whose tokenizer is to open them, if any."""
    shards, count, opened, skipped = list[SamplesRef](), 0, False, dict[int, str]()
    tables = _tables(config, shape, columns, skipped if config.on_long_prompt == "skip" else None)
    made = import_file.shards(tables, config.file, config.shard_size, config.save_directory, workers)
    for samples, rows in made:
        shards.append(samples)
        count += rows.height
        opened = opened or (base is not None and is_opened(base, rows["prompt"].to_list()))
    return _Texts(shards, count, opened, skipped)


def _try(specs: Sequence[RewardSpec], workspace: Workspace, shards: Sequence[SamplesRef]) -> None:
    """Load the values that have something to score, and try them at some of it."""
    needed = values.to_load(specs, workspace, [part for shard in shards for part in flat(shard.parts)])
    values.load_rewards(needed, workspace.devices[0])
    trial.try_rewards(needed, workspace.devices[0], _cases(shards))


def _opened(spec: RewardSpec, opened: bool) -> RewardSpec:
    return replace(spec, opened=opened and rewards.needs_of(spec) == "base model")


def _cases(shards: Sequence[SamplesRef]) -> list[trial.Case]:
    """Prompts to try with their records: the first of the first shard, of one in the middle, of the last."""
    chosen = [shards[place] for place in {0, len(shards) // 2, len(shards) - 1}]
    drawn = [
        read(flat(samples.parts)[0], "samples").join(
            prompts_of(samples.shard).head(1), on="prompt_id", maintain_order="left"
        )
        for samples in chosen
    ]
    return trial.drawn_cases(drawn)


def target_of(config: Scoring) -> str:
    return config.output or config.file


def _check_places(config: Scoring) -> None:
    """Raise ConfigError or StorageError where a file is not there or of no records, or a place cannot be
    written."""
    found = record_files.files_of(config.file)
    if len(found) > 1 and config.output in found:
        raise ConfigError(f"--output {config.output}: it is one of the files of --file; name another one")
    if config.output:
        files.check_records("--output", config.output)
    write_checks.check_writable(config.save_directory)
    for target in [config.output] if config.output else found:
        write_checks.check_replaceable(target)


def _tables(
    config: Scoring, shape: Shape, columns: Sequence[str], skipped: dict[int, str] | None
) -> Iterator[pl.DataFrame]:
    """The file's rows; ConfigError where a column would be written over."""
    names = config.prompt_column, config.generated_column
    for block, table in records.tables(config.file, *names, columns, shape, skipped):
        taken = [column for column in columns if any(column in record for record in block.records)]
        if taken and (shape.sides or not config.output):
            advice = "give the value another name," if shape.sides else "give an --output, or"
            raise ConfigError(f"--file {block.file} has {taken[0]!r} already: {advice} NAME=VALUE")
        yield table
