"""The toy engine is its own enumeration, and the whole pipeline on it is the tilted law."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from exptilt.engines import base, registry
from exptilt.engines.base import P0
from exptilt.engines.toy import ToyEngine
from exptilt.rng import uniform
from exptilt.storage import keys

LEVEL = 1e-4


def p0(**changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 50}
    return P0(model=registry.base_model("toy"), **{**settings, **changes})


def draws(law: P0, prompt: str, n: int) -> list[base.Sample]:
    return ToyEngine(law).draw([prompt], keys.seeds_for(0, [prompt], 0, n), 0)[0]


def fits(counts: Counter, law: dict[str, float], n: int) -> bool:
    """Whether counts follow the law, by chi-square; outcomes expected under 5 times are pooled."""
    assert set(counts) <= set(law)
    common = [text for text in law if law[text] * n >= 5]
    seen = [counts[t] for t in common]
    expected = [law[t] * n for t in common]
    rest = n - sum(expected)
    if rest > 1e-6 * n:
        seen, expected = [*seen, n - sum(seen)], [*expected, rest]
    return stats.chisquare(seen, expected, sum_check=False).pvalue > LEVEL


CASES = [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.8}]


@pytest.mark.parametrize("changes", CASES)
def test_probabilities_sum_to_one(changes):
    assert sum(p for _, p in ToyEngine(p0(**changes)).enumerate("x")) == pytest.approx(1)


@pytest.mark.parametrize("changes", CASES)
def test_samples_follow_the_enumerated_law(changes):
    law = dict(ToyEngine(p0(**changes)).enumerate("x"))
    assert fits(Counter(s.completion for s in draws(p0(**changes), "x", 20_000)), law, 20_000)


def test_logprob_is_the_enumerated_one():
    law = dict(ToyEngine(p0(top_k=3)).enumerate("x"))
    for sample in draws(p0(top_k=3), "x", 200):
        assert np.exp(sample.logprob) == pytest.approx(law[sample.completion])


def test_prompts_have_tables_and_noise_of_their_own():
    one, two = (Counter(s.completion for s in draws(p0(), x, 2000)) for x in ("x", "y"))
    assert one != two


def test_more_samples_extend_fewer():
    assert draws(p0(), "x", 64)[:32] == draws(p0(), "x", 32)


def test_noise_is_uniform_and_without_memory():
    seeds = np.array([keys.seed_for(0, "x", i) for i in range(4000)])[:, None]
    numbers, next_step = (uniform(seeds, step, np.arange(25)) for step in (0, 1))
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > LEVEL
    for one, other in ((numbers, next_step), (numbers[:, 1:], numbers[:, :-1]), (numbers[1:], numbers[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_noise_is_the_same_in_numpy_and_torch():
    torch = pytest.importorskip("torch")
    seeds, tokens = np.arange(100)[:, None], np.arange(7)
    there = uniform(torch.from_numpy(seeds), 5, torch.from_numpy(tokens)).numpy()
    np.testing.assert_array_equal(uniform(seeds, 5, tokens), there)


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_are_apart(seed):
    seeds = [
        keys.seed_for(seed, p, i)
        for p in [keys.prompt_id("x"), keys.prompt_id("x", 1), keys.prompt_id("y")]
        for i in range(1000)
    ]
    assert len(set(seeds)) == 3000
    assert min(seeds) >= 0
