"""Sweeps and palettes over a pool and over a scored file: nothing is drawn twice, and the numbers agree."""

import json
from pathlib import Path

import numpy as np
import pytest

from exptilt import stages
from exptilt.config import lambda_grid
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.validation import build
from exptilt.errors import ConfigError, ExptiltError
from exptilt.local_run import run
from exptilt.outputs import palette, sweep
from exptilt.planning import exploration
from exptilt.planning.plan import prepare
from exptilt.reports import palette_answer
from exptilt.stages.references import ScoredRef


def scored_of(plan) -> list[ScoredRef]:
    """The shards' samples and rewards, as the flows bring them."""
    if plan.scored:
        return list(plan.scored)
    found = []
    for shard in plan.shards:
        samples = stages.generate(plan.recipe, shard)
        rewards = tuple(stages.score(plan.recipe.workspace, samples, spec) for spec in plan.recipe.rewards)
        found.append(ScoredRef(samples=samples, rewards=rewards))
    return found


def swept(config: Sweep) -> sweep.Frontier:
    plan = exploration.prepare(config)
    return sweep.frontier(plan, [stages.explore(plan.recipe, s) for s in scored_of(plan)])


def answered(config: Palette) -> palette.Found:
    plan = exploration.prepare(config)
    return palette.find(plan, scored_of(plan))


@pytest.fixture
def settings(tmp_path, rewards_file):
    return {
        "basemodel": "toy",
        "value": (f"{rewards_file}:bees", f"{rewards_file}:length"),
        "end": 40,
        "save_directory": str(tmp_path / "results"),
    }


@pytest.fixture
def scored_file(tmp_path):
    """Records with two values and unequal counts of samples per prompt."""
    rng = np.random.default_rng(0)
    records = [
        {
            "prompt": f"p{k}",
            "generated": f"p{k} text {i}",
            "tone": float(rng.normal()),
            "calm": float(rng.normal()),
        }
        for k in range(60)
        for i in range(3 + k % 4)
    ]
    path = tmp_path / "scored.json"
    path.write_text(json.dumps(records))
    return path, records


def test_a_sweep_says_of_a_lambda_what_a_run_at_it_says(settings):
    found = swept(Sweep(**settings, lam=("1,0.25", "bees=-1:1:1")))
    lams = [tuple(point.lam.values()) for point in found.points]
    assert lams == [(1.0, 0.25), (-1.0, 0.0), (0.0, 0.0), (1.0, 0.0)]
    assert found.points[2].levels == found.base
    for point in found.points[:2]:
        summary = run(prepare(build_tilted(settings, point.lam)))
        assert summary.quality is not None
        assert point.kl.mean == pytest.approx(summary.quality.kl.mean)
        assert point.ess == pytest.approx(summary.quality.ess, rel=1e-5)
        assert point.verdict == summary.verdict
        assert summary.reused["samples"] == summary.shards
        for level, change in zip(point.levels, summary.values, strict=True):
            assert level.mean == pytest.approx(change.after.mean, abs=5 * level.se + 5 * change.after.se)
    assert found.points[3].levels[0].mean > found.base[0].mean > found.points[1].levels[0].mean


def build_tilted(settings: dict, lam: dict | tuple):
    from exptilt.config.settings import MCAligned

    return MCAligned(**settings, lam=lam)


def test_a_sweep_saves_points_picture_and_page(settings, tmp_path):
    found = swept(Sweep(**settings, lam=("1,0", "0,1")))
    points = json.loads((tmp_path / found.json).read_text())
    assert [point["lam"] for point in points] == [{"bees": 1.0, "length": 0.0}, {"bees": 0.0, "length": 1.0}]
    folder = tmp_path / found.folder
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "").replace("https://matplotlib.org", "")
    assert json.loads((folder / "manifest.json").read_text())["points"] == 2


def test_shards_do_not_move_a_sweep_or_a_palette(settings):
    for size in (32, 100):
        found = swept(Sweep(**settings, lam=("1,0.5",), shard_size=size))
        answer = answered(Palette(**settings, target=("bees=+0.1",), shard_size=size))
        if size == 32:
            first, first_answer = found, answer
    np.testing.assert_allclose(found.points[0].levels[0].mean, first.points[0].levels[0].mean, rtol=1e-12)
    np.testing.assert_allclose(answer.lam, first_answer.lam, rtol=1e-6)


def test_a_palette_brings_what_it_promises_when_it_is_drawn(settings):
    settings["end"] = 80
    found = answered(Palette(**settings, target=("bees=+0.15", "length=keep")))
    assert found.feasible
    assert found.residual < 1e-6
    assert [level.level.mean >= level.target_level - 1e-6 for level in found.levels] == [True, True]
    for level in found.levels:
        assert level.held_out is not None
        assert abs(level.held_out.mean - level.target_level) < 5 * level.held_out.se + 0.05
    summary = run(prepare(build_tilted({**settings, "ndraws": 50}, tuple(found.lam))))
    change = summary.values[0]
    assert change.after.mean == pytest.approx(found.levels[0].level.mean, abs=0.02)
    assert json.loads(Path(found.json).read_text())["palette"]["feasible"] is True


def test_a_palette_out_of_reach_names_the_values_and_what_is_within_reach(settings):
    found = answered(Palette(**settings, target=("bees=1.5",)))
    assert not found.feasible
    assert found.exit_code == 1
    assert found.share < 1
    said = " ".join(palette_answer.sentences(found))
    assert "out of reach: bees" in said
    assert "95% of the reachable way" in said


def test_a_scored_file_is_a_pool(scored_file, tmp_path):
    path, records = scored_file
    common = {"file": str(path), "save_directory": str(tmp_path / "results")}
    found = swept(Sweep(**common, value="tone,calm", lam=("1,0", "0.5,0.5")))
    assert found.prompts == 60
    by_prompt: dict[str, list[float]] = {}
    for record in records:
        by_prompt.setdefault(record["prompt"], []).append(record["tone"])
    base = np.mean([np.mean(tones) for tones in by_prompt.values()])
    tilted = np.mean([np.average(t, weights=np.exp(t)) for t in by_prompt.values()])
    assert found.base[0].mean == pytest.approx(base)
    assert found.points[0].levels[0].mean == pytest.approx(tilted)
    answer = answered(Palette(**common, target=("tone=+0.2", "calm=keep")))
    assert answer.levels[0].level.mean == pytest.approx(base + 0.2, abs=1e-6)


def test_a_sweep_of_a_file_saves_the_data_set_of_a_lambda(scored_file, tmp_path):
    path, _ = scored_file
    config = Sweep(
        file=str(path), save_directory=str(tmp_path / "out"), value="tone", lam=("50",), save=("1",)
    )
    plan = exploration.prepare(config)
    chosen = exploration.tilted(plan, config.vectors[0])
    from exptilt.outputs import dataset

    shards = [stages.resample(chosen.recipe, s.samples, s.rewards) for s in plan.scored]
    summary = dataset.merge(chosen, shards)
    kept = json.loads(Path(summary.json).read_text())
    assert len(kept) == 60
    assert summary.json.endswith("scored_lam=50.000_val=tone.json")
    assert summary.verdict == "best-of-n in disguise"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tone": None}, "record 3 has None for the value 'tone'"),
        ({"tone": 10**400}, "record 3 has 1000.* for the value 'tone', not a finite number"),
        ({"tone": float("nan")}, "record 3: column 'tone': NaN is not JSON"),
        ({"generated": "else"}, "record 3 needs 'prompt' and 'generated'"),
    ],
)
def test_a_file_that_is_not_scored_is_refused(scored_file, tmp_path, change, said):
    path, records = scored_file
    records[3].update(change)
    path.write_text(json.dumps(records))
    with pytest.raises(ExptiltError, match=said):
        exploration.prepare(
            Sweep(file=str(path), save_directory=str(tmp_path / "out"), value="tone", lam=("1",))
        )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("-0.5,2", [(-0.5, 2.0)]),
        ("b=2,a=-0.5", [(-0.5, 2.0)]),
        ("b=2", [(0.0, 2.0)]),
        ("a=0:1:0.5", [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0)]),
        ("b=1:0:-1,a=3", [(3.0, 1.0), (3.0, 0.0)]),
        ("a=0:0.3:0.1", [(0.0, 0.0), (0.1, 0.0), (0.2, 0.0), (0.3, 0.0)]),
    ],
)
def test_vectors_and_grids_are_read(spec, expected):
    assert lambda_grid.vectors([spec], ["a", "b"], 0) == [{"a": a, "b": b} for a, b in expected]


def test_random_vectors_lie_on_the_simplex_and_belong_to_the_seed():
    vectors = lambda_grid.vectors(["simplex:500:3"], ["a", "b", "c"], 7)
    found = np.array([list(lam.values()) for lam in vectors])
    assert found.shape == (500, 3)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 3.0)
    np.testing.assert_allclose(found.mean(axis=0), 1.0, atol=0.12)
    assert lambda_grid.vectors(["simplex:2:3"], ["a", "b", "c"], 7) == vectors[:2]


@pytest.mark.parametrize(
    "spec", ["1", "1,2,3", "nan,1", "c=0:1:1", "a=0:1", "a=0:1:0", "a=0:1:-1", "a=0:1:1e-9", "x"]
)
def test_what_is_no_vector_is_refused(spec):
    with pytest.raises(ConfigError, match="--lam"):
        lambda_grid.vectors([spec], ["a", "b"], 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lam": ("1",), "save": ("2",)}, "--save 2: name λ by number, 1 to 1, or all"),
        ({"lam": ("1,2",)}, "2 numbers for 1 value"),
        ({"lam": ("humour=0:1:1",)}, "'humour' is not one of the values"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_runs(given, said):
    with pytest.raises(ConfigError, match=said):
        build(Sweep, {"value": "humor", **given})


def test_a_palette_that_cannot_be_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="named twice: --value humor,humor"):
        build(Palette, {"target": ("humor=1", "humor=2")})
    with pytest.raises(ConfigError, match="one target per value of positive"):
        build(Palette, {"target": ("humor=1",), "value": "positive"})
