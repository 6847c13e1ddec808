"""The curve of a level against λ is that of the weights, prompt by prompt, whatever the order of the rows."""

import numpy as np
import polars as pl

from exptilt.reports.tilt_pictures import SCALES, levels
from exptilt.tilting import weights

PROMPTS, N, LAM = 5, 7, {"one": 0.8, "two": -1.5}


def test_a_curve_is_the_mean_over_prompts_of_the_weighted_means():
    rewards = np.random.default_rng(0).normal(size=(PROMPTS, N, len(LAM))) * 30  # exp of them overflows
    flat = rewards.reshape(-1, len(LAM))
    samples = pl.DataFrame({"prompt_id": [f"p{i // N}" for i in range(PROMPTS * N)]})
    samples = samples.with_columns(one=flat[:, 0], two=flat[:, 1]).sample(fraction=1, shuffle=True, seed=1)
    found = levels(samples, LAM)
    for place, scale in enumerate(SCALES):
        log_weight = weights.log_weights(rewards, scale * np.array([*LAM.values()]))
        expected = weights.levels(log_weight, rewards).mean(axis=0)
        assert np.allclose([found[value][place] for value in LAM], expected, rtol=1e-12)
