"""From a configuration to a plan: everything that can be checked before the base model is loaded.

Checked in this order: storage, models' names, prompts, their lengths, and that reward models load.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from exptilt import rewards
from exptilt.config.field_types import count_of
from exptilt.config.settings import Config, MCAligned, Valued
from exptilt.conversation import PLAIN
from exptilt.data import prompts
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ConfigError
from exptilt.models import devices, reference
from exptilt.models.devices import Devices
from exptilt.planning import publishing, run_record
from exptilt.planning.base_model import p0_of
from exptilt.planning.notes import notes
from exptilt.planning.prompts import Chosen, choose, source
from exptilt.planning.run_record import RunRecord
from exptilt.planning.values import check_refine, check_top_up, load_rewards, resolve_values, to_load
from exptilt.rewards import RewardSpec
from exptilt.run import Run, current, in_a_new_run
from exptilt.stages import claims
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ScoredRef, ShardRef
from exptilt.stages.shards import rows_of, shard_size
from exptilt.storage import pool, write_checks
from exptilt.storage.spooled_tables import Spool
from exptilt.wording import counted

CERTIFIED, CERTIFIED_SHARE = 256, 0.1  # of the prompts, by lot: those with second chains, where a run refines


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked run: the recipe, its prompts in shards, and the prompts left out or cut.

    `skipped` says why, by a prompt's index; `scored` holds the shards' samples and rewards where they came
    from a file. `form` says that prompts are conversations and in which column, "" where they are texts;
    `null` says why columns of the samples are null that the engine was found not to give; `notes` are what
    the run says in lines of their own before it starts; `record` is what it draws with where its
    configuration leaves that open.
    """

    recipe: Recipe
    shards: tuple[ShardRef, ...]
    skipped: dict[int, str]
    truncated: tuple[int, ...]
    scored: tuple[ScoredRef, ...] = ()
    form: str = ""
    null: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    record: RunRecord | None = None

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
        begun = [self.record.note] if self.record and self.record.note else []
        chat = f"{self.form} by the chat template" if recipe.p0 and recipe.p0.chat else ""
        prompts, samples = counted(self.n_prompts, "prompt"), counted(config.nsamples, "sample")
        shards = counted(len(self.shards), "shard")
        return (
            f"{recipe.drawn_by}: {prompts} of {config.data}{chat} × {samples} in {shards}"
            + self._terms
            + "".join(f"\nnote: {note}" for note in [*begun, *self.notes])
        )

    @property
    def _terms(self) -> str:
        """What the samples are tilted by, or scored where many tilts are looked at, each with its form."""
        how = {spec.value: f" ({manner})" for spec in self.recipe.rewards if (manner := rewards.manner(spec))}
        values = {spec.value: f"{spec.value}{how.get(spec.value, '')}" for spec in self.recipe.rewards}
        terms = [f"{lam:g} × {values[value]}" for value, lam in self.recipe.lam.items()]
        if terms:
            return f", tilted by {' + '.join(terms)}"
        by = "with its" if self.scored else "scored by"
        return f", {by} {', '.join(values.values())}" if values else ""


@in_a_new_run
def prepare(config: Config, workers: int = 0) -> Plan:
    """The plan of `config`, its prompts written to the pool.

    Args:
        config: the settings.
        workers: of a cluster, each with a device like those here; 0 where the run has none.

    Raises ConfigError, PromptError, ModelError or StorageError: one line on what to change.
    """
    write_checks.check_writable(config.save_directory)
    publishing.check(config)
    found = run_record.find(config)
    run_record.take_findings(found)
    plan = _prepared(config, found, workers)
    mine = plan.record
    assert mine
    holds = run_record.settled(config, mine, found, lambda: claims.are_held(plan.recipe, plan.shards))
    return dataclasses.replace(
        plan if holds.taken == mine.taken else _prepared(config, holds, workers), record=holds
    )


def _prepared(config: Config, found: RunRecord | None, workers: int) -> Plan:
    """The plan of `config`, by the run record that was `found`, else by what suits this machine."""
    names, as_begun = run_record.devices_for(config, found), found.applied(config) if found else config
    reward_dtype = found.reward_dtype if found else devices.reward_dtype(names[0], config.dtype)
    chosen = Chosen()
    recipe = _recipe(config, p0_of(as_begun, names[0]), names, reward_dtype, chosen)
    size = shard_size(chosen.rows.height, _together(config), workers or len(names), as_begun.shard_size)
    shards = tuple(_shards(chosen.rows, rows_of(chosen.blocks, size), config))
    null, unsteady = _try_out(recipe, shards, found)
    assert recipe.p0
    device, dtype = found.device if found else devices.kind(names[0]), recipe.p0.dtype
    return Plan(
        null=null,
        notes=tuple(notes(recipe, null, unsteady)),
        record=run_record.of_this_machine(device, dtype, reward_dtype, size),
        recipe=recipe,
        shards=shards,
        skipped=chosen.skipped,
        truncated=tuple(chosen.truncated),
        form=chosen.form,
    )


def _recipe(config: Config, p0: P0, names: Devices, reward_dtype: str, chosen: Chosen) -> Recipe:
    """What is drawn from `p0` and scored, on the devices `names`; enters its prompts in `chosen`."""
    tables = source(config, chosen, p0)
    p0 = _in_form(p0, chosen)
    specs = _values(config, p0, names[0], reward_dtype)
    choose(tables, config, p0, chosen)
    return Recipe(
        config=config,
        p0=dataclasses.replace(p0, opened=chosen.opened),
        rewards=specs,
        devices=names,
        name=f"{reference.file_name(p0.model.name)}-{reference.file_name(prompts.short_name(config.data))}",
        run=current(),
        certified=max(CERTIFIED / chosen.rows.height, CERTIFIED_SHARE),
    )


def _values(config: Config, p0: P0, device: str, dtype: str) -> tuple[RewardSpec, ...]:
    """The run's values, which can be asked for what it does; none where it has none."""
    if not isinstance(config, Valued):
        return ()
    n, at_once = config.nsamples, count_of(config.batch_size)
    specs = resolve_values(config.values, p0.model, device, dtype, p0, n=n, in_flight=at_once)
    check_top_up(config, specs)
    check_refine(config, p0, specs)
    return specs


def _together(config: Config) -> int:
    """Sequences of a prompt that are decoded at once: its samples, or the draws that move together."""
    return config.ndraws if isinstance(config, MCAligned) and config.refine else config.nsamples


def _in_form(p0: P0, chosen: Chosen) -> P0:
    """`p0` of the prompts as they are; refuses what is said of a template where none is filled in."""
    if chosen.in_chat and not p0.chat:
        why = f"prompts are conversations{chosen.in_column}"
        p0 = dataclasses.replace(p0, chat=registry.chat_digest(p0.model, p0.template, why))
    if p0.template != PLAIN and not p0.chat:
        flag = "--chat-template" if p0.template.text else "--template-options"
        raise ConfigError(
            f"{flag}: prompts are texts, and no template is filled in: add --chat, or leave it out"
        )
    return p0


def _try_out(
    recipe: Recipe, shards: Sequence[ShardRef], found: RunRecord | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Load the reward models, draw and score at some prompts; where the pool has all samples, score some of
    these. A value whose rewards the pool has, too, is not loaded.

    Returns why columns are null that the engine was found not to give, and the values that give one text
    several numbers, where the run refines.
    """
    from exptilt.planning import trial
    from exptilt.stages.generate import drawn_first, drawn_parts

    assert recipe.p0
    parts, device = drawn_parts(recipe, shards), recipe.devices[0]
    if found and parts is None and registry.capabilities(recipe.p0.model).is_local:
        run_record.check_device(device, found)
    specs = recipe.rewards if parts is None else to_load(recipe.rewards, recipe.workspace, parts)
    load_rewards(specs, device)
    n = max([1, *(spec.group or 1 for spec in specs)])
    if parts is None:
        tried = trial.try_draw(recipe.p0, device, recipe.batch_size, trial.cases(shards), n)
        null = trial.found_null(recipe.p0, device)
        trial.check_nll(recipe.rewards, recipe.p0, null.get("nll", ""))
    else:
        tried = trial.drawn_cases([drawn_first(recipe, shard, n) for shard in trial.spread(shards)])
        null = {}
        trial.check_nll(recipe.rewards, recipe.p0, trial.why_no_nll(tried))
    return null, trial.try_rewards(specs, device, tried, twice=recipe.refines)


def _shards(chosen: Spool, rows: Sequence[int], config: Config) -> Iterator[ShardRef]:
    return (_shard(table, index, len(rows), config) for index, table in enumerate(chosen.parts(rows)))


def _shard(table: pl.DataFrame, index: int, of: int, config: Config) -> ShardRef:
    path = pool.keep(config.save_directory, "prompts", "prompts", table, {"data": config.data})
    return ShardRef(index=index, of=of, prompts=path, n_prompts=table.height)
