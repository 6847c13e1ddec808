"""Resample: a shard's draws from the tilted model, and how good the tilt is for each prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.rng import uniform
from exptilt.stages.blocks import Matrix, compute_each
from exptilt.stages.ensemble import spreads
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, RewardsRef, SamplesRef
from exptilt.stages.score import agreed
from exptilt.stages.tables import Made, by_count
from exptilt.stages.top_up import top_up
from exptilt.storage import keys, schemas
from exptilt.tilting import diagnostics, weights
from exptilt.tilting.resampling import RESAMPLERS, Picks


def resample(recipe: Recipe, samples: SamplesRef, scored: Sequence[RewardsRef]) -> DrawsRef:
    """Draws and diagnostics of a shard at the recipe's λ, its samples topped up where that was asked for."""
    config = recipe.config
    assert isinstance(config, MCAligned)
    whole = agreed(recipe, samples, scored)
    if config.min_ess:
        whole = top_up(recipe, whole.samples, whole.rewards)
    paths, cached = compute_each(
        recipe.workspace,
        "draws",
        whole.samples,
        whole.rewards,
        config.nsamples,
        _tilt_of(recipe),
        lambda matrix, entries: _resample(recipe, matrix, entries),
    )
    return DrawsRef(samples=whole.samples, rewards=whole.rewards, paths=paths, cached=cached)


def _tilt_of(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config
    assert isinstance(config, MCAligned)
    return {
        "lam": list(recipe.lam.values()),
        "seed": config.seed,
        "n": config.nsamples,
        "ndraws": config.ndraws,
        "resampler": config.resampler,
    }


def _resample(recipe: Recipe, matrix: Matrix, entries: Sequence[Sequence[str]]) -> Made:
    prompt_ids, counts, rewards = matrix
    made = [
        _equally_many(recipe, [prompt_ids[i] for i in places], some)
        for places, some in by_count(counts, rewards)
    ]
    draws, said, levels = made[0] if len(made) == 1 else _in_order(prompt_ids, made)
    draws = draws.cast(schemas.DRAWS)
    return {
        "draws": draws,
        "diagnostics": said.cast(schemas.DIAGNOSTICS),
        "levels": levels.cast(schemas.LEVELS),
        **_spreads(recipe, matrix, entries, draws),
    }, {}


def _in_order(prompt_ids: list[str], made: Sequence[tuple[pl.DataFrame, ...]]) -> Iterator[pl.DataFrame]:
    """Each table of several sets of prompts, in the order of all prompts."""
    order = pl.LazyFrame({"prompt_id": prompt_ids}).with_row_index("place")
    for parts in zip(*made, strict=True):
        rows = pl.concat(parts).lazy().join(order, on="prompt_id")
        yield rows.sort("place", maintain_order=True).drop("place").collect()


def _spreads(
    recipe: Recipe, matrix: Matrix, entries: Sequence[Sequence[str]], draws: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The table of the ensembles' spreads, where there are ensembles."""
    order = pl.DataFrame({"prompt_id": matrix[0], "n": matrix[1]})
    found = [
        spreads(spec, parts, order, draws)
        for spec, parts in zip(recipe.rewards, entries, strict=True)
        if spec.members
    ]
    return {"spreads": pl.concat(found).cast(schemas.SPREADS)} if found else {}


def _equally_many(recipe: Recipe, prompt_ids: list[str], rewards: weights.Floats) -> tuple[pl.DataFrame, ...]:
    """Draws, diagnostics and levels of prompts with equally many samples, from rewards [P, N, V]."""
    log_weight = weights.log_weights(rewards, recipe.lam_vector)
    picks = picks_of(recipe, prompt_ids, log_weight)
    return (
        _draws(prompt_ids, picks, log_weight),
        _diagnose(prompt_ids, picks, log_weight),
        _levels(recipe, prompt_ids, picks, rewards),
    )


def picks_of(recipe: Recipe, prompt_ids: Sequence[str], log_weight: weights.Floats) -> Picks:
    """Which samples of each prompt are kept, [P, draws], by log weights [P, N]."""
    seeds = np.array([keys.seed_for(recipe.config.seed, p, "draw") for p in prompt_ids])
    how = _tilt_of(recipe)
    numbers = uniform(seeds[:, None], 0, np.arange(max(how["ndraws"], log_weight.shape[1])))
    return RESAMPLERS[how["resampler"]](log_weight, numbers, how["ndraws"])


def _draws(prompt_ids: list[str], picks: Picks, log_weight: weights.Floats) -> pl.DataFrame:
    prompt, draw = np.nonzero(picks >= 0)
    kept = picks[prompt, draw]
    table = {
        "prompt_id": np.array(prompt_ids)[prompt],
        "draw_index": draw,
        "sample_index": kept,
        "log_weight": log_weight[prompt, kept],
        "weight": weights.normalise(log_weight)[prompt, kept],
    }
    return pl.DataFrame(table)


def _diagnose(prompt_ids: list[str], picks: Picks, log_weight: weights.Floats) -> pl.DataFrame:
    table = {
        "prompt_id": prompt_ids,
        "n": np.full(len(prompt_ids), log_weight.shape[1]),
        **asdict(diagnostics.diagnose(log_weight)),
        "n_unique": [len(set(row) - {-1}) for row in picks.tolist()],
    }
    return pl.DataFrame(table)


def _levels(recipe: Recipe, prompt_ids: list[str], picks: Picks, rewards: weights.Floats) -> pl.DataFrame:
    log_weight = weights.log_weights(rewards, recipe.lam_vector)
    table = {
        "prompt_id": np.repeat(prompt_ids, rewards.shape[2]),
        "value": [spec.value for spec in recipe.rewards] * len(prompt_ids),
        "base": rewards.mean(axis=1).ravel(),
        "drawn": _mean_of_drawn(picks, rewards).ravel(),
        "weighted": weights.levels(log_weight, rewards).ravel(),
        "limit": weights.limit_levels(log_weight, rewards).ravel(),
    }
    return pl.DataFrame(table)


def _mean_of_drawn(picks: Picks, rewards: weights.Floats) -> weights.Floats:
    """Mean rewards [P, V] of the samples kept; every resampler keeps at least one."""
    kept = (picks >= 0)[..., None]
    drawn = np.take_along_axis(rewards, np.maximum(picks, 0)[..., None].astype(np.intp), axis=1)
    return np.asarray((drawn * kept).sum(axis=1) / kept.sum(axis=1), dtype=np.float64)
