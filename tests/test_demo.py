"""The embedded demo: English, its grammar's rates, two-valued rewards, and a tilt beside its closed form."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_tilt import bernoulli_law

from exptilt import demo, rewards
from exptilt.config.settings import MCAligned
from exptilt.demo.training.grammar import HUMOR_RATE, POSITIVE_RATE, is_review, labels, prompts, review
from exptilt.engines import base, registry
from exptilt.engines.base import P0
from exptilt.local_run import run
from exptilt.models import reference
from exptilt.models.generation_config import end_tokens
from exptilt.planning.plan import prepare
from exptilt.storage import keys

LEVEL = 1e-4
N = 12


@pytest.fixture(scope="module")
def samples() -> list[tuple[str, base.Sample]]:
    model = reference.checkpoint("demo")
    law = {"dtype": "float32", "temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 70}
    p0 = P0(model=model, ends=end_tokens(model)[0], **law)
    asked = demo.PROMPTS.read_text().splitlines()
    seeds = keys.seeds_for(0, [keys.prompt_id(text) for text in asked], 0, N)
    drawn = registry.load(p0, "cpu").draw(asked, seeds, 0)
    return [(prompt, sample) for prompt, row in zip(asked, drawn, strict=True) for sample in row]


def test_it_is_small_and_names_no_machine():
    folders = [demo.MODEL, *demo.REWARDS.values()]
    files = [path for folder in folders for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert all((folder / "model.safetensors").is_file() for folder in folders)
    for path in files:
        if path.suffix == ".json":
            assert '"/' not in path.read_text().replace('"/"', "")


def test_its_prompts_are_the_grammars():
    asked = demo.PROMPTS.read_text(encoding="utf-8").splitlines()
    assert len(set(asked)) == len(asked) >= 200
    assert asked == list(prompts())


def test_the_grammar_labels_what_it_writes_at_its_rates():
    written = [review(random.Random(i)) for i in range(4000)]
    for one in written:
        assert labels(one.prompt + one.completion) == (one.absurd, one.favourable)
    for rate, bits in (
        (HUMOR_RATE, [r.absurd for r in written]),
        (POSITIVE_RATE, [r.favourable for r in written]),
    ):
        assert stats.binomtest(sum(bits), 4000, rate).pvalue > LEVEL


def test_the_model_writes_reviews_at_the_grammars_rates(samples):
    assert np.mean([is_review(x, s.completion) for x, s in samples]) > 0.93
    assert np.mean([s.finish_reason == "stop" for _, s in samples]) > 0.99
    for i, rate in enumerate((HUMOR_RATE, POSITIVE_RATE)):
        bits = [labels(x + s.completion)[i] for x, s in samples]
        known = [bit for bit in bits if bit is not None]
        assert len(known) > 0.98 * len(bits)
        assert np.mean(known) == pytest.approx(rate, abs=0.04)


@pytest.mark.parametrize(("value", "bit"), [("humor", 0), ("positive", 1)])
def test_rewards_are_two_valued(samples, value, bit):
    reward = rewards.load(
        rewards.resolve(
            value, rewards.Beside(base=reference.checkpoint("demo"), dtype="bfloat16", base_dtype="float32")
        ),
        "cpu",
    )
    known = [(x, s.completion, labels(x + s.completion)[bit]) for x, s in samples]
    known = [row for row in known if row[2] is not None]
    x, y, bits = zip(*known, strict=True)
    numbers = reward.score(x, y, [None] * len(x)).rewards
    assert np.mean(np.abs(numbers - np.array(bits, dtype=float)) < 0.05) > 0.985


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("lam", [-0.5, 2.0])
def test_a_tilt_stands_beside_its_closed_form(root, lam):
    """Absurd reviews among the kept, against E[K e^λ / (K e^λ + n − K)] at the rate of the samples."""
    config = MCAligned(lam=lam, value="humor", nsamples=16, end=120, save_directory=root)
    summary = run(prepare(config))
    (change,) = summary.values
    expected = bernoulli_law(change.before.mean, lam, 16)
    assert change.after.mean == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 120))
    assert Path(summary.json).is_file()
