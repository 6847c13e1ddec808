"""Score: one value's rewards for a shard's samples."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt import rewards
from exptilt.conversation import prompt_of
from exptilt.errors import RewardError
from exptilt.models.devices import on_one_of
from exptilt.models.requests import at_once
from exptilt.rewards import RewardSpec
from exptilt.rewards.base import Reward
from exptilt.stages import deaths, failures
from exptilt.stages.blocks import Block, blocks_of, numbers_of
from exptilt.stages.ensemble import combined
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import Parts, RewardsRef, SamplesRef, ScoredRef, flat
from exptilt.stages.shards import samples_without
from exptilt.stages.tables import (
    Made,
    described,
    even_order,
    in_order,
    order_of,
    origin_of,
    prompts_of,
    read,
    samples_of,
)
from exptilt.stages.workspace import Workspace
from exptilt.storage import keys, pool, schemas

EVERY: Final = 2**31 - 1  # more samples than a prompt has
Lacking = tuple[tuple[str, ...], str]  # entries of samples, and the path of their rewards
AT_ONCE: Final = 2  # scoring tasks on a device: one reads and writes while the other computes


def score(workspace: Workspace, samples: SamplesRef, spec: RewardSpec) -> RewardsRef:
    """The rewards of one value for a shard's samples; RewardError where one is not finite.

    Raises PromptsFailed where the value fails at some prompts; with allow_missing it names them in the
    reference instead, and those with a reward that is not finite (see agreed).
    """
    began = time.perf_counter()
    try:
        members = _members(workspace, samples, spec) if spec.members else []
        parts, cached = combined(workspace, members, spec) if members else _score(workspace, samples, spec)
    except PromptsFailed as error:
        if not workspace.allow_missing:
            raise
        return RewardsRef(value=spec.value, parts={}, cached=False, seconds=0.0, missing=error.missing)
    return RewardsRef(
        value=spec.value,
        parts=parts,
        cached=cached,
        seconds=time.perf_counter() - began,
        members=tuple(path for each in members for path in flat(each)),
    )


def _score(workspace: Workspace, samples: SamplesRef, spec: RewardSpec) -> tuple[Parts, bool]:
    """The entries of the rewards of a value that is no ensemble, and whether the pool had them all."""
    pairs = {
        number: [(group, _path(workspace, group, spec)) for group in _together(parts, spec)]
        for number, parts in samples.parts.items()
    }
    paths = {number: tuple(path for _, path in both) for number, both in pairs.items()}
    lacking = _lacking(pair for both in pairs.values() for pair in both)
    if not lacking:
        return paths, True
    return paths, _computed(workspace, samples, spec, lacking)


def _computed(
    workspace: Workspace, samples: SamplesRef, spec: RewardSpec, lacking: Sequence[Lacking]
) -> bool:
    """Compute the entries that the pool lacks; whether it had them all by then."""
    prompts = prompts_of(samples.shard).select("prompt_id", "prompt", "prompt_index", "messages")
    found = [
        pool.compute_once(path, partial(_reward, workspace, prompts, parts, spec)) for parts, path in lacking
    ]
    cached = all(cached for _, cached in found)
    if not cached:
        deaths.note_computed(workspace)
    return cached


def _members(workspace: Workspace, samples: SamplesRef, spec: RewardSpec) -> list[Parts]:
    """The entries of each member's rewards; where servers score several, these work at once."""

    def parts(source: RewardSpec) -> Parts:
        return _score(workspace, samples, source)[0]

    served = sum(rewards.needs_of(source) == "server" for source in spec.sources)
    return at_once(parts, spec.sources, served) if served > 1 else [*map(parts, spec.sources)]


def _lacking(pairs: Iterable[Lacking]) -> list[Lacking]:
    """The entries of samples whose rewards the pool does not have, with the path of these."""
    return [(parts, path) for parts, path in pairs if pool.find(path) is None]


def is_scored(workspace: Workspace, parts: Sequence[str], spec: RewardSpec) -> bool:
    """Whether the pool says that it holds the rewards of all samples in the entries `parts`."""
    return all(pool.described(_path(workspace, (part,), spec)) for part in parts)


def _together(parts: tuple[str, ...], spec: RewardSpec) -> list[tuple[str, ...]]:
    """The entries of a block's samples that are scored together: all of them for a group, else each alone."""
    return [(part,) for part in parts] if spec.group is None else [parts]


def _path(workspace: Workspace, parts: tuple[str, ...], spec: RewardSpec) -> str:
    found = [described(part).files["samples"]["sha256"] for part in parts]
    digest = found[0] if spec.group is None else found
    key = keys.content_key({"samples": digest, "reward": spec.identity, "value": spec.value})
    return workspace.path("rewards", key)


def _samples(prompts: pl.DataFrame, parts: tuple[str, ...], spec: RewardSpec) -> pl.DataFrame:
    """The samples to score, with their prompts; of a group's, those that belong to it."""
    if spec.group is None:
        (part,) = parts
        return read(part, "samples").join(prompts, on="prompt_id", how="left", maintain_order="left")
    rows = in_order([read(part, "samples") for part in parts], even_order(prompts, spec.group or EVERY))
    return rows.join(prompts, on="prompt_id", maintain_order="left")


def _reward(workspace: Workspace, prompts: pl.DataFrame, parts: tuple[str, ...], spec: RewardSpec) -> Made:
    table = _samples(prompts, parts, spec)
    began = time.perf_counter()
    scored = on_one_of(
        workspace.devices, "score", AT_ONCE, lambda d: _scored(rewards.load(spec, d), table, spec)
    )
    seconds = time.perf_counter() - began
    workspace.run.meter.scored(table.height, seconds)
    if workspace.allow_missing:
        _name_not_finite(scored.rewards, table, spec)
    _refuse_not_finite(scored.rewards, table, spec)
    rows = table.select("prompt_id", "sample_index").with_columns(
        value=pl.lit(spec.value), reward=pl.Series(scored.rewards, dtype=pl.Float64)
    )
    meta = {
        **origin_of(parts[0]),
        "reward": spec.described,
        "cut": scored.cut,
        "recomputed": scored.recomputed,
        "seconds": seconds,
    }
    return {"rewards": rows.cast(schemas.REWARDS)}, meta


def _scored(reward: Reward, table: pl.DataFrame, spec: RewardSpec) -> rewards.Scored:
    """The rewards of all rows; where scoring fails, of halves of the prompts, to name those it fails at.

    Of a group every prompt is scored by itself.
    """
    prompt_ids = table["prompt_id"].unique(maintain_order=True).to_list()

    def of(part: Sequence[str]) -> pl.DataFrame:
        return table if len(part) == len(prompt_ids) else table.filter(pl.col("prompt_id").is_in(part))

    def work(part: Sequence[str]) -> rewards.Scored:
        rows = of(part)
        prompts = [prompt_of(row) for row in rows.select("prompt", "messages").to_dicts()]
        return reward.score(prompts, rows["completion"].to_list(), rows["nll"].to_list())

    made, failed = failures.narrowed(prompt_ids, work, known=lambda _: spec.group is not None)
    if failed:
        verb = f"value {spec.value!r}"
        missing = [
            failures.missing_prompt(of([name]).row(0, named=True), verb, error) for name, error in failed
        ]
        raise PromptsFailed(missing) from failed[0][1]
    numbers = np.concatenate([part.rewards for part in made])
    return rewards.Scored(numbers, sum(p.cut for p in made), sum(p.recomputed for p in made))


def _name_not_finite(numbers: rewards.Rewards, table: pl.DataFrame, spec: RewardSpec) -> None:
    """Raise PromptsFailed for the prompts that have a reward that is not finite."""
    bad = table.filter(pl.Series(~np.isfinite(numbers))).unique("prompt_id", maintain_order=True)
    error = RewardError("a reward that is not finite")
    if bad.height:
        rows = bad.iter_rows(named=True)
        raise PromptsFailed([failures.missing_prompt(row, f"value {spec.value!r}", error) for row in rows])


def agreed(recipe: Recipe, samples: SamplesRef, scored: Sequence[RewardsRef]) -> ScoredRef:
    """The shard with all its rewards, without the prompts that a value failed at.

    The others are drawn already; they are an entry of their own, which every value scores anew.
    """
    missing = tuple({m.prompt_index: m for ref in scored for m in ref.missing}.values())
    if not missing:
        return ScoredRef(samples=samples, rewards=tuple(scored))
    only = samples_without(recipe, samples, missing)
    prompts = prompts_of(only.shard)
    table = samples_of(only, order_of(prompts, only, recipe.config.nsamples))
    hit = set(numbers_of([prompt.prompt_index for prompt in missing]).tolist())
    origin = origin_of(flat(samples.parts)[0])
    cut = {b.number: (_kept(recipe, b, table, origin),) for b in blocks_of(prompts) if b.number in hit}
    only = replace(only, parts={**only.parts, **cut}, sources=_sources(samples, scored, hit))
    return ScoredRef(
        samples=only, rewards=tuple(score(recipe.workspace, only, spec) for spec in recipe.rewards)
    )


def _sources(samples: SamplesRef, scored: Sequence[RewardsRef], hit: set[int]) -> tuple[str, ...]:
    """The entries of the blocks `hit`, which a value failed at: the same run reads them again."""
    parts = [samples.parts, *(ref.parts for ref in scored)]
    found = [path for each in parts for number in sorted(hit) for path in each.get(number, ())]
    return (*samples.sources, *found)


def _kept(recipe: Recipe, block: Block, samples: pl.DataFrame, origin: dict[str, Any]) -> str:
    """The entry of the samples of what is left of a block."""
    mine = samples.filter(pl.col("prompt_id").is_in(block.prompt_ids))
    meta = {**origin, "of": block.prompt_ids}
    return pool.keep(recipe.config.save_directory, "samples", "samples", mine, meta)


def _refuse_not_finite(numbers: rewards.Rewards, table: pl.DataFrame, spec: RewardSpec) -> None:
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        row = table.row(int(bad[0]), named=True)
        raise RewardError(
            f"value {spec.value!r} ({spec.model.name}) gave {numbers[bad[0]]} for prompt "
            f"{row['prompt_index']} ({row['prompt'][:60]!r}), sample {row['sample_index']}; "
            f"{len(bad)} such in this shard"
        )
