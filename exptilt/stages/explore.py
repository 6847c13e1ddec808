"""Explore: what each λ of a sweep brings to a shard's prompts, and what it costs."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from exptilt.config.exploration import Sweep
from exptilt.config.lambda_grid import Lam
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ExploredRef, ScoredRef
from exptilt.stages.tables import Made, by_count, digests, matrix_of
from exptilt.storage import keys, pool, schemas
from exptilt.tilting import diagnostics, weights


def explore(recipe: Recipe, scored: ScoredRef) -> ExploredRef:
    """Levels, KL and ESS of every prompt of a shard at every λ of the sweep."""
    config = recipe.config
    assert isinstance(config, Sweep)
    parts = [*scored.samples.parts, *(part for ref in scored.rewards for part in ref.parts)]
    n, lams = config.nsamples, config.lams
    rows = [tuple(lam.values()) for lam in lams]
    key = keys.content_key({"of": digests(parts), "shard": scored.samples.shard.key, "n": n, "lams": rows})
    path = recipe.workspace.path("explored", key)
    _, cached = pool.compute_once(path, lambda: _explore(recipe, scored, lams))
    return ExploredRef(scored=scored, path=path, cached=cached)


def _explore(recipe: Recipe, scored: ScoredRef, lams: Sequence[Lam]) -> Made:
    prompt_ids, counts, rewards = matrix_of(scored.samples, scored.rewards, recipe.config.nsamples)
    tables = [
        _at(
            index,
            np.array([lam[ref.value] for ref in scored.rewards]),
            [prompt_ids[i] for i in places],
            block,
        )
        for places, block in by_count(counts, rewards)
        for index, lam in enumerate(lams)
    ]
    return {"explored": pl.concat(tables).cast(schemas.EXPLORED)}, {}


def _at(index: int, lam: weights.Floats, prompt_ids: list[str], rewards: weights.Floats) -> pl.DataFrame:
    """One λ's rows, one per prompt of rewards [P, N, V]."""
    log_weight = weights.log_weights(rewards, lam)
    said = diagnostics.diagnose(log_weight, tail=False)
    return pl.DataFrame(
        {
            "prompt_id": prompt_ids,
            "lam_index": np.full(len(prompt_ids), index),
            "n": np.full(len(prompt_ids), rewards.shape[1]),
            "levels": weights.levels(log_weight, rewards),
            "ess": said.ess,
            "max_weight": said.max_weight,
            "kl": said.kl,
            "n_needed": said.n_needed,
        },
        schema_overrides={"levels": pl.List(pl.Float64)},
    )
