"""The curve of a level against λ is that of the weights, prompt by prompt, whatever the order of the rows."""

import numpy as np
import polars as pl

from exptilt.outputs.page_prompts import PagePrompts
from exptilt.outputs.shown_prompts import ShardTables
from exptilt.reports.tilt_pictures import SCALES, levels
from exptilt.tilting import weights

PROMPTS, N, LAM = 5, 7, {"one": 0.8, "two": -1.5}


def test_a_curve_is_the_mean_over_prompts_of_the_weighted_means():
    rewards = np.random.default_rng(0).normal(size=(PROMPTS, N, len(LAM))) * 30  # exp of them overflows
    flat = rewards.reshape(-1, len(LAM))
    samples = pl.DataFrame({"prompt": [i // N for i in range(PROMPTS * N)]})
    samples = samples.with_columns(one=flat[:, 0], two=flat[:, 1]).sample(fraction=1, shuffle=True, seed=1)
    found = levels(samples, LAM)
    for place, scale in enumerate(SCALES):
        log_weight = weights.log_weights(rewards, scale * np.array([*LAM.values()]))
        expected = weights.levels(log_weight, rewards).mean(axis=0)
        assert np.allclose([found[value][place] for value in LAM], expected, rtol=1e-12)


def test_pictures_keep_numbers_of_every_shard_and_no_text():
    page = PagePrompts(count=1, seed=0, share=1.0)
    for first in (0, 3):
        names = [f"p{i}" for i in range(first, first + 3)]
        prompts = pl.DataFrame({"prompt_id": names, "prompt_index": range(first, first + 3)})
        samples = pl.DataFrame(
            {"prompt_id": np.repeat(names, 2), "sample_index": [0, 1] * 3, "one": range(6)}
        )
        texts = {"prompt": names, "messages": None, "reference": None}
        more = samples.with_columns(completion=pl.lit("c" * 100), logprob=-1.0)
        page.enter(ShardTables(prompts=prompts.with_columns(**texts), samples=more, lam={"one": 0.5}))
    kept = pl.concat(page.pictured)
    assert kept["prompt"].to_list() == [i // 2 for i in range(12)]
    assert all(dtype.is_numeric() for dtype in kept.dtypes)
