"""`import exptilt`: runs on names, lists and frames, what they give back, and the mathematics on arrays."""

import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import exptilt
from exptilt.config.settings import MCAligned

PROMPTS = ["abc", "ab", "a", "abc"]


@pytest.fixture
def settings(tmp_path, rewards_file):
    """Settings of a tilted run of the toy engine."""
    folder = str(tmp_path / "results")
    return {"basemodel": "toy", "value": f"{rewards_file}:bees", "nsamples": 5, "save_directory": folder}


def test_importing_it_loads_nothing_heavy():
    code = "import sys, exptilt; exptilt.normalise; print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("prefect", "torch", "transformers", "polars", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


def test_every_name_is_there_and_type_checkers_know_it():
    stub = (Path(exptilt.__file__).with_suffix(".pyi")).read_text()
    for name in exptilt.__all__:
        assert getattr(exptilt, name) is not None
        assert f" as {name}\n" in stub or f"{name}: str" in stub
    assert stub.count(" as ") == len(exptilt.__all__) - 1
    assert set(exptilt.__all__) <= set(dir(exptilt))
    with pytest.raises(AttributeError, match="no attribute 'tilt_it'"):
        _ = exptilt.tilt_it


def test_a_run_takes_the_settings_of_the_command_line():
    parameters = inspect.signature(exptilt.mc_aligned).parameters
    assert [*parameters] == [*MCAligned.model_fields]
    assert parameters["nsamples"].default == 32
    assert "min_ess: draw more" in (exptilt.mc_aligned.__doc__ or "")
    with pytest.raises(exptilt.ExptiltError, match=r"^--nsampels: extra inputs are not permitted"):
        exptilt.original(nsampels=1)


def test_frames_hold_what_was_written(settings):
    result = exptilt.mc_aligned(**settings, lam=1.0, data=PROMPTS, ndraws=2)
    rows = json.loads(Path(result.paths["records"]).read_text())
    assert result.records.drop("prompt_id").to_dicts() == rows
    assert result.records["prompt"].to_list() == [p for p in PROMPTS for _ in range(2)]
    assert (result.samples.height, result.rewards.height, result.diagnostics.height) == (20, 20, 4)
    assert result.diagnostics["n"].to_list() == [5] * 4
    assert result.table("draws").height == 8
    assert result.summary.kept == 8
    assert str(result).splitlines()[-3].startswith("records")
    assert all(Path(path).exists() for path in result.paths.values())


@pytest.mark.parametrize("shape", ["tuple", "series", "dicts", "frame", "lazy", "pandas", "arrow", "path"])
def test_prompts_come_in_every_shape_and_give_the_same_rows(settings, tmp_path, shape):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS))
    shapes = {
        "tuple": tuple(PROMPTS),
        "series": pl.Series(PROMPTS),
        "dicts": [{"prompt": text, "more": 1} for text in PROMPTS],
        "frame": pl.DataFrame({"prompt": PROMPTS, "number": range(4)}),
        "lazy": pl.LazyFrame({"prompt": PROMPTS}),
        "pandas": pl.DataFrame({"prompt": PROMPTS}).to_pandas(),
        "arrow": pa.table({"prompt": PROMPTS}),
        "path": path,
    }
    listed = exptilt.original(basemodel="toy", save_directory=tmp_path, data=PROMPTS)
    other = exptilt.original(basemodel="toy", save_directory=tmp_path, data=shapes[shape])
    assert other.records.equals(listed.records)
    assert other.summary.tokens == 0
    assert shape == "path" or other.paths == listed.paths
    assert len(list((tmp_path / "inputs").iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, r"^data: give a name, a path, a list or a frame, not int$"),
        ([b"a"], r"^prompts: number 0 cannot be written as JSON"),
        (["a", 1], r"prompt 1 is not text but int$"),
        (["a", "\ud800"], r"prompt 1 holds half a character"),
        ([{"text": "a"}], r"^no column 'prompt'; its columns are text"),
        ([], r"it holds no prompts$"),
    ],
)
def test_prompts_that_are_none_are_named_in_one_line(tmp_path, given, said):
    with pytest.raises(exptilt.ExptiltError, match=said) as caught:
        exptilt.original(basemodel="toy", save_directory=tmp_path, data=given)
    assert "\n" not in str(caught.value)


def test_it_runs_inside_an_event_loop(settings):
    async def notebook() -> exptilt.Result:
        return exptilt.mc_aligned(**settings, data=PROMPTS, lam=1)

    assert asyncio.run(notebook()).records.height == 4


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "prompts.txt"
    for text in ("a", "b"):
        path.write_text(text)
        assert (
            exptilt.original(basemodel="toy", save_directory=tmp_path, data=path).records["prompt"][0] == text
        )


def test_records_are_scored_beside_what_was_given(settings, rewards_file):
    drawn = exptilt.mc_aligned(**settings, lam=1, data=PROMPTS)
    value = f"{rewards_file}:length"
    scored = exptilt.score(file=drawn.records, value=value, save_directory=settings["save_directory"])
    lengths = [len(row["generated"]) - len(row["prompt"]) for row in drawn.records.to_dicts()]
    assert scored.records["length"].to_list() == lengths
    assert scored.records.drop("length").equals(drawn.records)
    assert scored.summary.means["length"].mean == np.mean(lengths)
    again = exptilt.score(file=drawn.records, value=value, save_directory=settings["save_directory"])
    assert again.paths == scored.paths
    assert again.summary.reused["length"] == again.summary.shards


def test_a_file_is_scored_in_place_and_anew_after_a_change(settings, tmp_path, rewards_file):
    path = tmp_path / "texts.json"
    for text in ("b", "bb"):
        path.write_text(json.dumps([{"prompt": "x", "generated": f"x{text}"}]))
        result = exptilt.score(file=path, value=f"{rewards_file}:length", save_directory=tmp_path)
        assert json.loads(path.read_text())[0]["length"] == len(text)
        assert result.paths == {"records": str(path)}


def test_a_sweep_and_a_palette_look_at_one_pool(settings):
    swept = exptilt.sweep(**settings, data=PROMPTS, lam="bees=-1:1:1", save="3")
    drawn = exptilt.mc_aligned(**settings, data=PROMPTS, lam=1)
    assert swept.records["number"].to_list() == [1, 2, 3]
    assert swept.paths["data set 3"] == drawn.paths["folder"]
    assert drawn.summary.tokens == 0
    found = exptilt.palette(**settings, data=PROMPTS, target="bees=+0.05")
    assert found.summary.feasible
    assert found.records["lam"].to_list() == found.summary.lam
    for result in (swept, found):
        with pytest.raises(exptilt.ExptiltError, match=r"^this run wrote no table 'samples'$"):
            _ = result.samples


def test_scored_records_serve_a_sweep_and_a_palette(tmp_path):
    texts = [{"prompt": f"p{k % 3}", "generated": f"p{k % 3} {k}", "calm": float(k)} for k in range(12)]
    swept = exptilt.sweep(file=texts, value="calm", lam="1", save_directory=tmp_path)
    found = exptilt.palette(file=pl.DataFrame(texts), target="calm=keep", save_directory=tmp_path)
    assert swept.summary.base[0].mean == found.summary.levels[0].base.mean == np.mean(range(12))


def test_a_shard_that_fails_leaves_the_others_saved(settings, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def picky(prompts, completions):\n    return [1 / ('bad' not in p) for p in prompts]\n")
    data, shards = [*map(str, range(40)), "bad", *map(str, range(41, 70))], {"shard_size": 32, "lam": 1}
    run = {**settings, "value": f"{own}:picky", "data": data, **shards}
    with pytest.raises(exptilt.ExptiltError, match=r"'bad'.*ZeroDivisionError") as caught:
        exptilt.mc_aligned(**run)
    assert str(caught.value).startswith("1 of 3 shards failed; the others are saved")
    assert "\n  shard 002: prompt 40 ('bad')" in str(caught.value)
    rest = exptilt.mc_aligned(**run, allow_missing=True)
    assert (rest.summary.tokens, rest.summary.kept, rest.summary.reused["picky"]) == (0, 69, 2)


def test_the_mathematics_works_on_arrays():
    rewards = np.array([[[0.0], [1.0]], [[1.0], [1.0]]])
    log_weight = exptilt.log_weights(rewards, np.array([np.log(3.0)]))
    np.testing.assert_allclose(exptilt.normalise(log_weight), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(exptilt.levels(log_weight, rewards), [[0.75], [1.0]])
    np.testing.assert_allclose(exptilt.diagnose(log_weight).ess, [1.6, 2.0])
    many = np.repeat(log_weight[:1], 4000, axis=0)
    for resampler in ("multinomial", "systematic"):
        kept = exptilt.resample(many, draws=2, resampler=resampler, seed=1)
        assert kept.shape == (4000, 2)
        assert kept.mean() == pytest.approx(0.75, abs=0.03)
        assert np.array_equal(kept, exptilt.resample(many, draws=2, resampler=resampler, seed=1))
    with pytest.raises(ValueError, match="no resampler 'best': known are multinomial, "):
        exptilt.resample(many, resampler="best")
