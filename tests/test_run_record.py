"""The run record: what the first run of a configuration found out, every later one takes over."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpoints import causal

import exptilt
from exptilt.config.settings import MCAligned, Original
from exptilt.errors import ConfigError, PromptError
from exptilt.local_run import prepare, run
from exptilt.stages import claims

BASE = {"basemodel": "toy", "end": 96}


def config(folder: Path, **more) -> MCAligned:
    settings = {**BASE, "value": "toy", "lam": 1.0, "save_directory": str(folder), **more}
    return MCAligned(**settings)


@pytest.fixture
def own(rewards_file):
    """A value of our own."""
    return f"{rewards_file}:bees"


def records(folder: Path) -> list[Path]:
    return sorted(folder.glob("pool/runs/*.json"))


def altered(folder: Path, **changes) -> None:
    """The one record of a root, as another machine would have written it."""
    (path,) = records(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "node7", **changes}))


def test_a_run_keeps_what_it_found_out_and_the_next_takes_it(tmp_path, own):
    first = prepare(config(tmp_path, value=own))
    (path,) = records(tmp_path)
    said = json.loads(path.read_text())
    assert said["dtype"] == first.recipe.p0.dtype == "float32"
    assert said["shard_size"] * len(first.shards) >= 96
    before = path.read_bytes()
    assert prepare(config(tmp_path, value=own)).shards == first.shards
    assert path.read_bytes() == before
    assert "node" not in first.opening


def test_a_machine_that_joins_takes_over_type_and_sizes_and_says_so(tmp_path, own):
    alone = prepare(config(tmp_path, value=own))
    altered(tmp_path, dtype="bfloat16", shard_size=64, reward_dtype="float16")
    joined = prepare(config(tmp_path, value=own, lam=2.0))
    assert (joined.recipe.p0.dtype, len(joined.shards), len(alone.shards)) == ("bfloat16", 2, 3)
    assert "note: as node7 began this run: cpu, bfloat16, shards of 64 prompts" in joined.opening
    assert joined.recipe.config.dtype == "auto"


def test_what_a_configuration_says_itself_stands(tmp_path, own):
    prepare(config(tmp_path, value=own))
    altered(tmp_path, dtype="bfloat16", shard_size=32)
    for said in ({"dtype": "float32"}, {"shard_size": 96}, {"nsamples": 8}):
        plan = prepare(config(tmp_path, value=own, **said))
        assert plan.recipe.p0.dtype == "float32"
    assert len(records(tmp_path)) == 4


def test_runs_that_differ_only_in_the_tilt_share_a_record(tmp_path, own):
    prepare(config(tmp_path, value=own))
    prepare(config(tmp_path, value=own, lam=-3.0, ndraws=2, export="sft"))
    prepare(Original(**BASE, nsamples=32, save_directory=str(tmp_path)))
    assert len(records(tmp_path)) == 1


def test_a_machine_without_the_kind_of_device_is_refused_unless_nothing_is_left_to_draw(tmp_path, own):
    run(prepare(config(tmp_path, value=own)))
    altered(tmp_path, device="cuda")
    again = run(prepare(config(tmp_path, value=own, lam=2.0)))
    assert again.reused["samples"] == again.shards
    for entry in (tmp_path / "pool/samples").iterdir():
        for manifest in entry.rglob("manifest.json"):
            manifest.unlink()
    with pytest.raises(ConfigError, match="node7 began this run on cuda, and this machine has only cpu"):
        prepare(config(tmp_path, value=own))
    prepare(config(tmp_path, value=own, device="cpu"))


def test_another_version_is_refused_while_the_run_goes_and_takes_it_over_later(tmp_path, own):
    plan = prepare(config(tmp_path, value=own))
    versions = plan.record.versions | {"torch": "1.0"}
    altered(tmp_path, versions=versions)
    with claims.of_shards(plan.recipe, plan.shards) as claimed:
        place = claimed.take()
        with pytest.raises(ConfigError, match=r"node7 is at work at this run with torch 1\.0, and this mach"):
            prepare(config(tmp_path, value=own))
        claimed.give_back(place)
    assert prepare(config(tmp_path, value=own)).shards == plan.shards
    assert json.loads(records(tmp_path)[0].read_text())["versions"] == plan.record.versions


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_record_that_does_not_read_as_one_is_written_anew(tmp_path, own, text):
    first = prepare(config(tmp_path, value=own))
    (path,) = records(tmp_path)
    path.write_text(text)
    assert prepare(config(tmp_path, value=own)).shards == first.shards
    assert json.loads(path.read_text())["dtype"] == "float32"


def test_of_runs_that_begin_at_once_all_hold_one_record(tmp_path, own):
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: prepare(config(tmp_path, value=own)), range(4)))
    (path,) = records(tmp_path)
    assert {json.dumps(plan.record.model_dump()) for plan in plans} == {
        json.dumps(json.loads(path.read_text()))
    }


AGAIN = """
import sys
import exptilt
summary = exptilt.mc_aligned(**eval(sys.argv[1])).summary
print(summary.kept, sorted({"torch", "transformers"} & sys.modules.keys()))
"""


def test_a_run_whose_tables_are_there_loads_no_torch(tmp_path):
    settings = {
        "basemodel": "demo",
        "value": "humor",
        "lam": -1.0,
        "end": 40,
        "nsamples": 2,
        "max_new_tokens": 4,
    }
    exptilt.mc_aligned(**settings, save_directory=str(tmp_path))
    asked = repr({**settings, "lam": 2.0, "save_directory": str(tmp_path)})
    again = subprocess.run([sys.executable, "-c", AGAIN, asked], capture_output=True, text=True, check=True)
    assert again.stdout == "40 []\n"


@pytest.fixture
def letters(tmp_path):
    """The plan of a small checkpoint on one prompt."""
    folder = causal(tmp_path / "letters", "llama")
    (tmp_path / "p.txt").write_text("abc\n")

    def planned(**more):
        settings = {"basemodel": folder, "data": str(tmp_path / "p.txt"), "save_directory": str(tmp_path)}
        return prepare(Original(**{**settings, "max_new_tokens": 12, **more}))

    return planned


def test_what_was_found_out_of_other_prompts_is_not_taken(tmp_path, letters):
    letters()
    (tmp_path / "p.txt").write_text("abc\n" + "a" * 5000 + "\n")
    with pytest.raises(PromptError, match=r"prompt 1 has 5,?000 tokens"):
        letters()


def test_what_other_versions_found_out_is_not_taken(tmp_path, letters):
    plan = letters()
    (path,) = records(tmp_path)
    findings = {key: [[1], [1]] for key in json.loads(path.read_text())["findings"]}
    altered(tmp_path, findings=findings, versions=plan.record.versions | {"transformers": "1.0"})
    assert letters().recipe.p0 == plan.recipe.p0
    assert json.loads(path.read_text())["findings"].items() <= plan.record.findings.items()
