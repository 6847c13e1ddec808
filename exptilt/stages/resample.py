"""Resample: a shard's draws from the tilted model, and how good the tilt is for each prompt."""

from typing import Any

import numpy as np
import polars as pl

from exptilt import diagnostics, ids, pool, schemas, tilt
from exptilt.config import MCAligned
from exptilt.engines.noise import uniform
from exptilt.plan import Recipe
from exptilt.refs import DrawsRef, RewardsRef, SamplesRef
from exptilt.stages.tables import Made, described, read, rewards_of


def resample(recipe: Recipe, samples: SamplesRef, scored: list[RewardsRef]) -> DrawsRef:
    """Draws and diagnostics of a shard at the recipe's λ."""
    parts = [*samples.parts, *(part for ref in scored for part in ref.parts)]
    key = ids.content_key({"of": _digests(parts), "shard": samples.shard.key, **_tilt_of(recipe)})
    path = recipe.path("draws", key)
    _, cached = pool.compute_once(path, lambda: _resample(recipe, samples, scored))
    return DrawsRef(samples=samples, rewards=tuple(scored), path=path, cached=cached)


def _digests(parts: list[str]) -> list[str]:
    return [said["sha256"] for part in parts for said in described(part).files.values()]


def _tilt_of(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config
    assert isinstance(config, MCAligned)
    return {"lam": recipe.lam, "seed": config.seed, "n": config.nsamples, "ndraws": config.ndraws}


def _resample(recipe: Recipe, samples: SamplesRef, scored: list[RewardsRef]) -> Made:
    n, n_draws = recipe.config.nsamples, _tilt_of(recipe)["ndraws"]
    prompt_ids = read(samples.shard.prompts, "prompts")["prompt_id"].to_list()
    columns = [rewards_of(ref, samples.shard, n)["reward"].to_numpy() for ref in scored]
    matrix = np.stack(columns, axis=-1).reshape(len(prompt_ids), n, len(columns))
    log_weight = tilt.log_weights(matrix, np.array(recipe.lam))
    seeds = np.array([ids.seed_for(recipe.config.seed, p, "draw") for p in prompt_ids])
    picks = tilt.resample(log_weight, uniform(seeds[:, None], 0, np.arange(n_draws)))
    draws = _draws(prompt_ids, picks, log_weight)
    return {"draws": draws, "diagnostics": _diagnose(prompt_ids, picks, log_weight)}, {}


def _draws(prompt_ids: list[str], picks: Any, log_weight: tilt.Floats) -> pl.DataFrame:
    n_draws = picks.shape[1]
    table = {
        "prompt_id": np.repeat(prompt_ids, n_draws),
        "draw_index": np.tile(np.arange(n_draws), len(prompt_ids)),
        "sample_index": picks.ravel(),
        "log_weight": np.take_along_axis(log_weight, picks, axis=1).ravel(),
        "weight": np.take_along_axis(tilt.normalise(log_weight), picks, axis=1).ravel(),
    }
    return pl.DataFrame(table).cast(schemas.DRAWS)


def _diagnose(prompt_ids: list[str], picks: Any, log_weight: tilt.Floats) -> pl.DataFrame:
    table = {
        "prompt_id": prompt_ids,
        "n": np.full(len(prompt_ids), log_weight.shape[1]),
        "ess": diagnostics.ess(log_weight),
        "max_weight": diagnostics.max_weight(log_weight),
        "khat": diagnostics.khat(log_weight),
        "log_z": diagnostics.log_z(log_weight),
        "kl": diagnostics.kl(log_weight),
        "n_unique": [len(set(row)) for row in picks.tolist()],
    }
    return pl.DataFrame(table).cast(schemas.DIAGNOSTICS)
