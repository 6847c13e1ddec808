"""Steered draws: plain weights where nothing is copied, nearer to the tilt otherwise, in every layout."""

from pathlib import Path

import numpy as np
import pytest
from test_steering import every_path, table

import exptilt
from exptilt.engines.toy import LETTERS
from exptilt.errors import ConfigError
from exptilt.storage import pool

LAM, PROMPTS = 2.0, 40
VALUE = """
def bees(prompts, completions):
    return [c.count("b") - 0.5 * c.count("a") for c in completions]
"""

COUNTED = """
def bees(prompts, completions):
    with open(LOG, "a") as log:
        print(len(completions), file=log)
    return [c.count("b") - 0.5 * c.count("a") for c in completions]
"""


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Run the toy engine, tilted by the number of its letters, in a root by its name."""
    roots = tmp_path_factory.mktemp("steered")
    (roots / "letters.py").write_text(VALUE)

    def run(root: str, **settings) -> exptilt.Result:
        defaults = {"basemodel": "toy", "value": f"{roots}/letters.py:bees", "lam": LAM, "nsamples": 8}
        given = {**defaults, "end": PROMPTS, "ndraws": 4, **settings}
        return exptilt.mc_aligned(**given, save_directory=str(roots / root))

    return run


@pytest.fixture(scope="module")
def steered(make):
    return make("one", refine=2, steer=True, block_tokens=1)


def rows(result: exptilt.Result, name: str = "refined") -> list[dict]:
    return result.table(name).to_dicts()


def level(prompt: str) -> float:
    """The level of p_λ."""
    paths, p = every_path(table(prompt))
    reward = (paths == LETTERS.index("b")).sum(1) - 0.5 * (paths == LETTERS.index("a")).sum(1)
    weight = p * np.exp(LAM * reward)
    return float(weight @ reward / weight.sum())


def test_seven_shards_are_one(make):
    how = {"refine": 2, "steer": True, "block_tokens": 3, "end": 200, "ndraws": 1, "nsamples": 4}
    one, seven = make("whole", shard_size=200, **how), make("parts", shard_size=32, **how)
    assert (one.summary.shards, seven.summary.shards) == (1, 7)
    assert rows(one) == rows(seven)
    assert one.summary.refinement.steering == seven.summary.refinement.steering


def apart(n: int, count: int, rng: np.random.Generator, prompt: str) -> float:
    """The variance of log Ẑ of n plain samples of a prompt."""
    paths, p = every_path(table(prompt))
    weight = np.exp(LAM * ((paths == LETTERS.index("b")).sum(1) - 0.5 * (paths == LETTERS.index("a")).sum(1)))
    return float(np.log(weight[rng.choice(len(p), p=p, size=(count, n))].mean(axis=1)).var())


def test_the_spread_of_log_z_is_that_of_independent_populations(make, steered):
    """Of blocks that make no copy, four populations are 4 × 8 samples; steering brings them closer."""
    rng, prompts = np.random.default_rng(0), steered.table("prompts")["prompt"]
    expected = np.sqrt(np.mean([apart(8, 500, rng, prompt) for prompt in prompts]))
    plain = make("apart", refine=1, steer=True, block_tokens=49).summary.refinement.steering
    assert plain.copies == 0
    assert plain.spread == pytest.approx(expected, rel=0.3)  # of 40 × 3 degrees of freedom: sd 7 %
    assert 0 < steered.summary.refinement.steering.spread < expected
    assert f"sd {plain.spread:.2f} between populations of a prompt" in plain.fact


def pool_of(result: exptilt.Result, stage: str) -> list[pool.Entry]:
    """The pool's entries of a stage."""
    folders = Path(result.paths["folder"]).parents[1].glob(f"pool/{stage}/*")
    return [entry for folder in folders if (entry := pool.find(str(folder)))]


def entries(result: exptilt.Result) -> dict[str, int]:
    """When the pool's steered draws were written."""
    return {e.path: Path(e.path, pool.MANIFEST).stat().st_mtime_ns for e in pool_of(result, "steered")}


def test_nothing_is_steered_twice(make, steered):
    before = entries(steered)
    more = make("one", refine=3, steer=True, block_tokens=1)
    assert entries(more) == before
    assert more.summary.refinement.course[0] == steered.summary.refinement.course[0]


def test_beginnings_of_samples_are_scored_once_for_every_tilt(make, tmp_path):
    """A second λ scores as much as in a root of its own, but for the samples and their beginnings."""
    (tmp_path / "counted.py").write_text(f"LOG = {str(tmp_path / 'log')!r}\n{COUNTED}")
    how = {"value": f"{tmp_path}/counted.py:bees", "refine": 1, "steer": True, "block_tokens": 1, "end": 64}

    def scored(root: str, lam: float) -> int:
        (tmp_path / "log").write_text("")
        make(root, lam=lam, **how)
        return sum(map(int, (tmp_path / "log").read_text().split()))

    scored("shared", 1.0)
    begun = [entry.table("beginnings") for entry in pool_of(make("shared", lam=1.0, **how), "beginnings")]
    assert len(begun) == 2
    known = sum(table.height for table in begun) + 64 * 8
    tried = scored("own", 2.0) - known - scored("shared", 2.0)
    assert 0 <= tried < 10  # texts by a plan that finds no rewards


def test_a_block_as_long_as_completions_is_plain_resampling(make):
    plain, whole = make("plain", refine=2), make("whole", refine=2, steer=True, block_tokens=49)
    assert rows(whole) == rows(plain)


def test_steered_draws_begin_nearer_to_the_tilt(make, steered):
    target = LAM * np.mean([level(prompt) for prompt in steered.table("prompts")["prompt"]])
    begun = steered.summary.refinement.course[0].level.mean
    drawn = make("plain", refine=2).summary.refinement.course[0].level.mean
    assert drawn + (target - drawn) / 4 < begun < target


def test_the_summary_says_what_beginnings_explain(steered):
    said = str(steered)
    assert "copies per prompt; beginnings explain" in said
    explained = steered.summary.refinement.steering.explained
    assert list(explained) == [1, 2, 3]
    assert 0 < explained[1] < explained[2] < explained[3] < 1


def test_samples_draws_and_levels_stay_the_pools(make, steered):
    plain = make("plain", refine=2)
    for name in ("samples", "draws", "diagnostics"):
        assert rows(steered, name) == rows(plain, name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"refine": 0, "steer": True}, "add --refine K"),
        ({"refine": 1, "steer": True, "block_tokens": 50}, "no block of --block-tokens 50 ends before"),
        ({"refine": 1, "steer": True, "value": "perplexity"}, "beginnings of completions, which have no"),
    ],
)
def test_what_cannot_be_steered_is_named(make, settings, said):
    with pytest.raises(ConfigError, match=said):
        make("refused", **settings)
