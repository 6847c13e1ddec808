"""Sweep: what each λ brings to a shard's prompts, and what it costs."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from exptilt.config.exploration import Sweep
from exptilt.config.lambda_grid import Lam
from exptilt.stages.blocks import Matrix, compute_each
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import ExploredRef, ScoredRef
from exptilt.stages.tables import Made, by_count
from exptilt.storage import schemas
from exptilt.tilting import diagnostics, weights


def explore(recipe: Recipe, scored: ScoredRef) -> ExploredRef:
    """Levels, KL and ESS of every prompt of a shard at every λ of the sweep."""
    config = recipe.config
    assert isinstance(config, Sweep)
    n, lams, values = config.nsamples, config.lams, [ref.value for ref in scored.rewards]
    paths, cached = compute_each(
        recipe.workspace,
        "explored",
        scored.samples,
        scored.rewards,
        n,
        {"n": n, "lams": [tuple(lam.values()) for lam in lams]},
        lambda matrix, _: _explore(matrix, values, lams),
    )
    return ExploredRef(scored=scored, paths=paths, cached=cached)


def _explore(matrix: Matrix, values: Sequence[str], lams: Sequence[Lam]) -> Made:
    prompt_ids, counts, rewards = matrix
    tables = [
        _at(index, np.array([lam[value] for value in values]), [prompt_ids[i] for i in places], some)
        for places, some in by_count(counts, rewards)
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
