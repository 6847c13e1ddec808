"""What fails everywhere is said in one line while planning; what fails here and there is a run's matter."""

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import causal
from processes import run_flow

from exptilt.config.settings import MCAligned, Original
from exptilt.engines import registry
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ModelError, RewardError, ShardsFailed
from exptilt.local_run import run
from exptilt.planning import trial
from exptilt.planning.plan import prepare
from exptilt.stages import retries
from exptilt.stages.tables import read

OWN = """
def broken(prompts, completions):
    return [{}[c] for c in completions]

def single(prompts, completions):
    return 1.0

def square(prompts, completions):
    return [[1.0] for _ in completions]

def words(prompts, completions):
    return ["good" for _ in completions]

def nan(prompts, completions):
    return [float("nan") for _ in completions]

def absent(prompts, completions):
    raise FileNotFoundError("the word list")

def first(prompts, completions):
    if any(p == FIRST for p in prompts):
        raise KeyError("the first")
    return [float("b" in c) for c in completions]
"""


@pytest.fixture
def value(tmp_path, toy):
    """The name of a function of OWN."""
    shard = prepare(toy()).shards[0]
    prompt = read(shard.prompts, "prompts")["prompt"][0]
    (tmp_path / "own.py").write_text(OWN.replace("FIRST", repr(prompt)))
    return lambda name: f"{tmp_path}/own.py:{name}"


def drawn(config) -> list[Path]:
    return list(Path(config.save_directory, "pool").glob("samples/*/*"))


SAID = {
    "broken": r"^value 'broken' \(.*own.py:broken\) fails at prompt 0 \('.*'\): KeyError: '.*' \(own.py:3\)$",
    "single": r"^value 'single' gave shape \(\) for 1 sample$",
    "square": r"^value 'square' gave shape \(1, 1\) for 1 sample$",
    "words": r"^value 'words' gave what is not numbers: text$",
}


@pytest.mark.parametrize("name", SAID)
def test_a_reward_that_fails_everywhere_stops_the_plan(toy, value, name):
    for allowed in (False, True):
        config = toy(value=("perplexity", value(name)), lam=(0.0, 1.0), allow_missing=allowed)
        with pytest.raises(RewardError, match=SAID[name]) as caught:
            prepare(config)
        assert "\n" not in str(caught.value)
    assert drawn(config) == []


@pytest.mark.parametrize("name", SAID)
def test_so_it_does_where_the_samples_are_there(toy, value, name):
    """Another value of samples that were drawn before: some of these are scored."""
    run(prepare(toy(end=4)))
    with pytest.raises(RewardError, match=SAID[name]):
        prepare(toy(end=4, value=value(name)))


def test_one_that_fails_at_the_first_prompt_only_is_the_runs_matter(toy, value):
    for _ in range(2):  # without samples, and with
        config = toy(value=value("first"), end=70, shard_size=32)
        plan = prepare(config)
        with pytest.raises(ShardsFailed, match=r"shard 001: prompt 0 .*value 'first' failed with KeyError"):
            run(plan)
        assert drawn(config)
        run(prepare(toy(end=70, shard_size=32)))


def test_what_may_pass_is_left_to_retries(toy, value, monkeypatch, capsys):
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)
    config = toy(value=value("absent"))
    plan = prepare(config)
    with pytest.raises(ShardsFailed, match="shard 001: the word list") as failed:
        run(plan)
    assert isinstance(failed.value.__cause__, FileNotFoundError)
    assert capsys.readouterr().err.count("trying again") == retries.RETRIES


def test_a_damaged_pool_is_no_reason_not_to_plan(toy):
    run(prepare(toy(end=4)))
    for file in Path(toy().save_directory, "pool", "samples").rglob("samples-*.parquet"):
        file.write_bytes(file.read_bytes()[:-1])
    again = run(prepare(toy(end=4, lam=2.0)))
    assert again.reused["samples"] == 0


def test_without_a_case_nothing_is_tried(toy):
    """So it is where the device failed, or a store for now, at the trial's draw."""
    trial.try_rewards(prepare(toy()).recipe.rewards, "cpu", [])


def settings_of(folder: str, tmp_path: Path) -> dict:
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in ("abc", "fade", "cab")]))
    where = {"data": str(tmp_path / "p.json"), "save_directory": str(tmp_path / "results")}
    return {"basemodel": folder, **where, "max_new_tokens": 4, "dtype": "float32", "nsamples": 2}


def test_the_base_model_is_not_loaded_where_the_pool_has_all(tmp_path, rewards_file, monkeypatch):
    settings = settings_of(causal(tmp_path / "letters", "gpt2"), tmp_path)
    run(prepare(Original(**settings)))
    loaded, make = [], TransformersEngine.__init__

    def watched(self, *arguments):
        loaded.append(arguments)
        make(self, *arguments)

    monkeypatch.setattr(TransformersEngine, "__init__", watched)
    registry.load.cache_clear()
    tilt = {"value": f"{rewards_file}:bees", "lam": 1.0}
    assert run(prepare(MCAligned(**settings, **tilt))).tokens == 0
    assert loaded == []
    prepare(MCAligned(**{**settings, "nsamples": 3}, **tilt))
    assert len(loaded) == 1


def test_a_value_is_not_tried_where_the_pool_has_its_rewards(tmp_path):
    log = tmp_path / "calls"
    body = f"open({str(log)!r}, 'a').write('x')\n    return [len(c) for c in completions]"
    (tmp_path / "own.py").write_text(f"def long(prompts, completions):\n    {body}\n")
    settings = {**settings_of("toy", tmp_path), "value": f"{tmp_path}/own.py:long"}
    run(prepare(MCAligned(**settings, lam=1.0)))
    called = log.read_text()
    run(prepare(MCAligned(**settings, lam=2.0)))
    assert log.read_text() == called
    prepare(MCAligned(**{**settings, "nsamples": 3}, lam=2.0))
    assert log.read_text() == called + "x"


def test_a_model_of_a_kind_that_nobody_knows_is_named(tmp_path):
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    with pytest.raises(ModelError, match=r"^base model '.*strange' does not load: .*nonesuch") as caught:
        prepare(Original(**settings_of(str(folder), tmp_path)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results" / "pool" / "samples").exists()


def test_a_model_that_fails_at_every_draw_is_named_once(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise AttributeError("'Cache' has no attribute 'states'")

    folder = causal(tmp_path / "letters", "gpt2")
    monkeypatch.setattr(TransformersEngine, "draw", broken)
    said = rf"^base model '{folder}' fails at prompt 0 \('abc'\): AttributeError: .* \(test_trial.py:"
    with pytest.raises(ModelError, match=said):
        prepare(Original(**settings_of(folder, tmp_path), allow_missing=True))


def test_the_trial_changes_no_draw(toy_original):
    """It has a seed and a length of its own, and keeps nothing."""
    config = toy_original(end=8, nsamples=3)
    prepare(config)
    assert drawn(config) == []
    assert np.all([shard.n_prompts for shard in prepare(config).shards])


def test_the_flow_ends_with_one_line_and_code_2(server, tmp_path, value):
    arguments = ["--basemodel", "toy", "--value", value("broken"), "--lam", "1", "--end", "30"]
    done = run_flow(*arguments, env=server, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: value 'broken' (")
