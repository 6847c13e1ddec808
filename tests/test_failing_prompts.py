"""A prompt that always fails: it is named or left out on record, and costs the others nothing."""

import json
from pathlib import Path

import polars as pl
import pytest
from checkpoints import causal, letters_tokenizer
from processes import ROOT, run_flow

from exptilt.config.settings import MCAligned, Original
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ExptiltError, PromptRefused, ShardsFailed
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.stages.failures import MOST, narrowed
from exptilt.stages.tables import read

TEXTS = ["abc", "fed", "bad Ω", "cab", "face", "dead", "beef", "a"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> str:
    """A model whose tokenizer was given a token that its embedding has no row for."""
    folder = tmp_path_factory.mktemp("grown")
    causal(folder, "gpt2")
    tokenizer = letters_tokenizer()
    tokenizer.add_tokens(["Ω"])
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def settings(grown, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in TEXTS]))
    common = {
        "basemodel": grown,
        "data": str(tmp_path / "p.json"),
        "shard_size": 8,
        "max_new_tokens": 6,
        "top_k": 5,
    }
    return {**common, "save_directory": str(tmp_path / "results"), "dtype": "float32"}


@pytest.fixture
def drawn(monkeypatch):
    """The prompts of every draw that ends well."""
    seen, draw = [], TransformersEngine.draw

    def watched(self, prompts, seeds, batch_size):
        found = draw(self, prompts, seeds, batch_size)
        if seeds.size > 1:  # not the trial
            seen.append(list(prompts))
        return found

    monkeypatch.setattr(TransformersEngine, "draw", watched)
    return seen


def go(config):
    return run(prepare(config))


def test_a_prompt_that_the_model_cannot_take_is_named_and_the_others_are_drawn_once(settings, drawn):
    config = Original(**settings, nsamples=3)
    said = r"prompt 2 \('bad Ω'\): drawing failed with IndexError: token 8 .* beyond the model's 8 embeddings"
    with pytest.raises(ShardsFailed, match=said):
        go(config)
    assert sorted(text for batch in drawn for text in batch) == sorted(set(TEXTS) - {"bad Ω"})
    drawn.clear()
    with pytest.raises(ShardsFailed, match=said):
        go(config)
    summary = go(replace_flag(config))
    assert drawn == []
    assert (summary.prompts, summary.samples, [m.prompt_index for m in summary.missing]) == (7, 21, [2])
    manifest = json.loads((Path(summary.folder) / "manifest.json").read_text())
    assert manifest["summary"]["missing"][0]["prompt"] == "bad Ω"
    assert "left out: prompt 2 ('bad Ω'): drawing failed" in (Path(summary.folder) / "README.md").read_text()


def replace_flag(config):
    return config.model_copy(update={"allow_missing": True})


def test_the_samples_of_the_others_are_those_of_a_run_without_it(settings, tmp_path):
    left = go(replace_flag(Original(**settings, nsamples=3)))
    again = go(replace_flag(Original(**settings, nsamples=3)))
    assert (left.reused["samples"], again.reused["samples"], again.tokens) == (0, 1, 0)
    assert left.tokens >= left.samples
    rest = [{"prompt": text} for text in TEXTS if text != "bad Ω"]
    (tmp_path / "rest.json").write_text(json.dumps(rest))
    alone = Original(**{**settings, "data": str(tmp_path / "rest.json")}, nsamples=3)
    columns = ["prompt_id", "sample_index", "completion", "seed"]
    found = [pl.read_parquet(f"{go_.folder}/samples/*.parquet").select(columns) for go_ in (left, go(alone))]
    assert found[0].equals(found[1])


REWARD = (
    "def picky(prompts, completions):\n"
    "    if any('{bad}' in p for p in prompts): raise KeyError('no such film')\n"
    "    return [float(len(c)) for c in completions]\n"
    "def odd(prompts, completions):\n"
    "    return [float('nan') if '{bad}' in p else 1.0 for p in prompts]\n"
)


@pytest.mark.parametrize("shard_size", [32, 70])
def test_a_reward_that_fails_at_a_prompt_leaves_it_out_if_asked(toy, tmp_path, shard_size):
    first = prepare(toy()).shards[0]
    bad = read(first.prompts, "prompts")["prompt"][0]
    (tmp_path / "own.py").write_text(REWARD.replace("{bad}", bad))
    value = (f"{tmp_path}/own.py:picky", f"{tmp_path}/own.py:odd")
    config: MCAligned = toy(value=value, lam=(0.1, 1.0), end=70, shard_size=shard_size)
    with pytest.raises(ShardsFailed, match=r"prompt 0 .*value 'picky' failed with KeyError"):
        go(config)
    summary = go(replace_flag(config))
    assert (summary.prompts, summary.kept, [m.prompt_index for m in summary.missing]) == (69, 69, [0])
    rows = json.loads(Path(summary.json).read_text())
    assert bad not in {row["prompt"] for row in rows}
    assert go(replace_flag(config)).missing == summary.missing


LATE = (
    "import pathlib\n"
    "def late(prompts, completions):\n"
    "    if pathlib.Path('{armed}').exists() and any('{bad}' in p for p in prompts): raise KeyError('gone')\n"
    "    return [float('b' in c) for c in completions]\n"
)


def test_a_reward_that_fails_while_topping_up_leaves_its_prompt_out_whole(toy, tmp_path):
    """The samples that it has scored before are no part of the data set either; the others keep theirs."""
    first = prepare(toy()).shards[0]
    bad = read(first.prompts, "prompts")["prompt"][0]
    text = LATE.replace("{bad}", bad).replace("{armed}", str(tmp_path / "armed"))
    (tmp_path / "late.py").write_text(text)
    settings = {"value": f"{tmp_path}/late.py:late", "nsamples": 4}
    whole = go(toy(**settings))
    (tmp_path / "armed").touch()
    summary = go(toy(**settings, min_ess=4.0, max_nsamples=8, allow_missing=True))
    assert (whole.prompts, summary.prompts, summary.kept) == (30, 29, 29)
    assert [m.prompt_index for m in summary.missing] == [0]
    assert summary.samples > 29 * 4


def test_the_flow_says_so_too(server, tmp_path):
    (tmp_path / "own.py").write_text(REWARD.replace("{bad}", "Park"))
    arguments = ["--basemodel", "toy", "--value", "own.py:odd", "--lam", "1", "--shard-size", "80"]
    done = run_flow(*arguments, "--allow-missing", "--end", "80", env=server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out    prompt " in done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("end", [20, 70])
def test_sweeps_and_palettes_leave_it_out_on_record(server, tmp_path, toy, end):
    first = prepare(toy(end=end)).shards[0]
    bad = read(first.prompts, "prompts")["prompt"][0]
    (tmp_path / "own.py").write_text(REWARD.replace("{bad}", bad))
    pool = ["--basemodel", "toy", "--value", "own.py:picky", "--end", str(end), "--shard-size", "32"]
    sweep = [*pool, "--lam", "picky=-1:1:1", "--save", "3"]
    refused = run_flow(*sweep, env=server, cwd=tmp_path, file=ROOT / "flows" / "sweep.py")
    assert refused.returncode == 1
    assert f"prompt 0 ({bad[:60]!r}): value 'picky' failed with KeyError" in refused.stderr
    swept = run_flow(*sweep, "--allow-missing", env=server, cwd=tmp_path, file=ROOT / "flows" / "sweep.py")
    assert swept.returncode == 0, swept.stderr
    assert "left out    prompt 0" in swept.stdout
    (manifest,) = (tmp_path / "results").rglob("*_sweep_*/manifest.json")
    assert [gone["prompt_index"] for gone in json.loads(manifest.read_text())["missing"]] == [0]
    assert f"{end - 1} prompts" in (manifest.parent / "index.html").read_text()
    (saved,) = (tmp_path / "results").rglob("*_lam=1.000_*.json")
    assert len(json.loads(saved.read_text())) == end - 1
    target = [*pool, "--target", "picky=+0.1", "--allow-missing"]
    answered = run_flow(*target, env=server, cwd=tmp_path, file=ROOT / "flows" / "palette.py")
    assert answered.returncode == 0, answered.stderr
    assert f"of {end - 1} prompts" in answered.stdout
    assert "left out    prompt 0" in answered.stdout


def test_a_failure_at_all_prompts_is_raised_as_it_came_and_soon():
    tried = []

    def broken(part):
        tried.append(part)
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        narrowed(range(1024), broken)
    assert len(tried) < 30 + MOST


@pytest.mark.parametrize("error", [OSError("later"), ExptiltError("on purpose")])
def test_what_may_pass_and_what_is_meant_is_not_narrowed(error):
    tried = []

    def once(part):
        tried.append(part)
        raise error

    with pytest.raises(type(error)):
        narrowed(range(8), once)
    assert len(tried) == 1


def test_what_is_refused_is_not_tried_again_and_a_later_try_has_the_same_parts():
    refused, tried = {3, 4, 9, 10, 11, 12}, []

    def draw(part):
        tried.append(list(part))
        for place, item in enumerate(part):
            if item in refused:
                raise PromptRefused(f"not {item}", place)
        return list(part)

    found, failed = narrowed(range(16), draw)
    assert [item for part in found for item in part] == sorted(set(range(16)) - refused)
    assert [(item, str(error)) for item, error in failed] == [
        (item, f"not {item}") for item in sorted(refused)
    ]
    assert all(sum(item in part for part in tried) <= 5 for item in range(16))
    assert not [part for part in tried[1:] if 3 in part]
    assert narrowed(range(16), draw, lambda item: item in refused)[0] == found
