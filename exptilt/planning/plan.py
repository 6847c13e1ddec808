"""From a configuration to a plan: everything that can be checked before the base model is loaded.

Checked in this order: storage, models' names, prompts, their lengths, and that reward models load.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from exptilt import rewards
from exptilt.config.settings import Config, Valued
from exptilt.data import prompts
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ConfigError, ModelError
from exptilt.models import devices, reference
from exptilt.models.reference import ModelRef
from exptilt.planning.base_model import is_opened, other_sampler, p0_of
from exptilt.planning.prompt_length import fit
from exptilt.rewards import RewardSpec
from exptilt.run import Run, current, in_a_new_run
from exptilt.stages.blocks import number_of
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ScoredRef, ShardRef
from exptilt.stages.shards import blocks_per_shard, rows_of
from exptilt.storage import filesystem, pool
from exptilt.storage.spooled_tables import Spool
from exptilt.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked run: the recipe, its prompts in shards, and the prompts left out or cut.

    `scored` holds the shards' samples and rewards where they came from a file.
    """

    recipe: Recipe
    shards: tuple[ShardRef, ...]
    skipped: tuple[int, ...]
    truncated: tuple[int, ...]
    scored: tuple[ScoredRef, ...] = ()

    @property
    def run(self) -> Run:
        """The run that the plan is of."""
        return self.recipe.run

    @property
    def n_prompts(self) -> int:
        """Prompts of all shards."""
        return sum(shard.n_prompts for shard in self.shards)

    @property
    def opening(self) -> str:
        """The run in one line, before it starts; a second one where the model asks for another sampler."""
        config, recipe = self.recipe.config, self.recipe
        tilt = " + ".join(f"{number:g} × {value}" for value, number in recipe.lam.items())
        prompts, samples = counted(self.n_prompts, "prompt"), counted(config.nsamples, "sample")
        shards = counted(len(self.shards), "shard")
        return (
            f"{recipe.drawn_by}: {prompts} of {config.data} × {samples} in {shards}"
            + (f", tilted by {tilt}" if tilt else "")
            + self._other_sampler
        )

    @property
    def _other_sampler(self) -> str:
        p0 = self.recipe.p0
        asked = other_sampler(p0) if p0 else ""
        if not (p0 and asked):
            return ""
        asks = f"{p0.model.name} asks for {asked} (generation_config.json)"
        return f"\nnote: {asks}, which this run does not use"


@in_a_new_run
def prepare(config: Config) -> Plan:
    """The plan of `config`, its prompts written to the pool.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    filesystem.check_writable(config.save_directory)
    names = devices.resolve(config.device)
    p0 = p0_of(config, names[0])
    specs: tuple[RewardSpec, ...] = ()
    if isinstance(config, Valued):
        specs = resolve_values(config.values, p0.model, names[0], config.dtype, p0.chat)
    chosen, blocks, skipped, truncated, opened = _chosen(config, p0)
    recipe = Recipe(
        config=config,
        p0=dataclasses.replace(p0, opened=opened),
        rewards=specs,
        devices=names,
        name=f"{reference.file_name(p0.model.name)}-{reference.file_name(prompts.short_name(config.data))}",
        run=current(),
    )
    in_each = blocks_per_shard(chosen.height, config.nsamples, len(names), config.shard_size)
    shards = tuple(_shards(chosen, rows_of(blocks, in_each), config))
    load_rewards(specs, names[0])
    _try_out(recipe, shards)
    return Plan(
        recipe=recipe,
        shards=shards,
        skipped=tuple(skipped),
        truncated=tuple(truncated),
    )


def _try_out(recipe: Recipe, shards: Sequence[ShardRef]) -> None:
    """Draw and score at some prompts; where the pool has all samples, score some of these."""
    from exptilt.planning import trial
    from exptilt.stages.generate import all_drawn, drawn_first

    assert recipe.p0
    if all_drawn(recipe, shards):
        tried = trial.drawn_cases([drawn_first(recipe, shard) for shard in trial.spread(shards)])
    else:
        tried = trial.try_draw(recipe.p0, recipe.devices[0], recipe.batch_size, trial.cases(shards))
    trial.try_rewards(recipe.rewards, recipe.devices[0], tried)


def load_rewards(specs: Sequence[RewardSpec], device: str) -> None:
    """Load every reward model, so that one that does not load stops the run before it draws."""
    for spec in specs:
        rewards.load(spec, device)


def resolve_values(
    values: Sequence[str], base: ModelRef, device: str, dtype: str, chat: str = ""
) -> tuple[RewardSpec, ...]:
    """The rewards of `values`.

    Args:
        values: as --value writes them.
        base: the base model, for perplexity and the demo's values.
        device: where they are computed.
        dtype: auto is what is fast on `device`, and float32 for small base models on a CPU.
        chat: the digest of p0's chat template, empty without one.

    Raises:
        ModelError: a reward model is not found, or the base model's engine gives no likelihood that a value
            needs.
    """
    own = devices.fast_dtype(device) if dtype == "auto" else dtype
    theirs = registry.dtype_of(base, device, dtype)
    specs = tuple(rewards.resolve(value, base, own, theirs, chat) for value in values)
    for value, spec in zip(values, specs, strict=True):
        if rewards.needs_of(spec) == "base model" and not registry.capabilities(base).gives_likelihood:
            raise ModelError(
                f"--value {value}: {spec.kind} needs the model's logits, which {base.name} does not give"
            )
    return specs


def _chosen(config: Config, p0: P0) -> tuple[Spool, Counter[int], list[int], list[int], bool]:
    """The prompts of a run and how many are in each block; the indices of those left out and of those cut;
    whether p0 is `opened`."""
    chosen, blocks, skipped, truncated, opened = Spool(), Counter[int](), list[int](), list[int](), False
    tables = _slice(prompts.tables(config.data, config.prompt_column), config)
    for fitted in fit(tables, p0, config.on_long_prompt):
        chosen.append(fitted.table)
        blocks.update(map(number_of, fitted.table["prompt_index"].to_list()))
        skipped += fitted.skipped
        truncated += fitted.truncated
        opened = opened or (not p0.chat and is_opened(p0.model, fitted.table["prompt"].to_list()))
    return chosen, blocks, skipped, truncated, opened


def _slice(tables: Iterable[pl.DataFrame], config: Config) -> Iterator[pl.DataFrame]:
    """The prompts start..end-1."""
    total = 0
    for table in tables:
        part = table[max(config.start - total, 0) : config.end and config.end - total]
        total += table.height
        if part.height:
            yield part
        if config.end is not None and total >= config.end:
            break
    if total <= config.start:
        raise ConfigError(
            f"the range --start {config.start} --end {config.end} is empty: "
            f"{config.data} has {counted(total, 'prompt')}"
        )


def _shards(chosen: Spool, rows: Sequence[int], config: Config) -> Iterator[ShardRef]:
    return (_shard(table, index, len(rows), config) for index, table in enumerate(chosen.parts(rows)))


def _shard(table: pl.DataFrame, index: int, of: int, config: Config) -> ShardRef:
    path = pool.keep(config.save_directory, "prompts", "prompts", table, {"data": config.data})
    return ShardRef(index=index, of=of, prompts=path, n_prompts=table.height)
