"""What comes out: JSON as the research code wrote it, and a folder that load_dataset and polars open."""

import hashlib
import json
from pathlib import Path

import datasets
import polars as pl
import pytest

from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.storage import schemas


@pytest.fixture
def tilted(toy, rewards_file):
    values = (f"{rewards_file}:bees", f"{rewards_file}:length")
    return run(prepare(toy(lam=(1.0, -0.25), value=values, ndraws=2)))


def test_records_have_the_research_codes_keys_and_names(tilted):
    path = Path(tilted.json)
    assert path.name == "toy-demo_lam=1.000,-0.250_val=bees,length_0to30.json"
    assert path.parent.name == "temp"
    rows = json.loads(path.read_text())
    assert len(rows) == 60
    assert list(rows[0]) == [
        *("prompt", "completion", "generated", "perplexity"),
        *("bees", "length", "weight", "ess"),
    ]
    for row in rows:
        completion = row["completion"]
        assert row["generated"] == row["prompt"] + completion
        assert (row["bees"], row["length"]) == (float("b" in completion), len(completion))
        assert row["perplexity"] < 0
        assert 0 < row["weight"] <= 1 <= row["ess"] <= 32
    assert path.read_text() == json.dumps(rows, indent=4, ensure_ascii=False) + "\n"


def test_an_original_run_has_its_name_and_keys(toy_original):
    summary = run(prepare(toy_original(end=None)))
    assert Path(summary.json).name == "toy-demo.json"
    rows = json.loads(Path(summary.json).read_text())
    assert {tuple(row) for row in rows} == {("prompt", "completion", "generated", "perplexity")}
    assert len(rows) == summary.prompts


def test_the_folder_opens_with_load_dataset_and_polars(tilted, tmp_path):
    cache = str(tmp_path / "cache")
    kept = datasets.load_dataset(tilted.folder, split="train", cache_dir=cache)
    assert kept.num_rows == 60
    assert kept.column_names[:4] == ["prompt_id", "prompt", "completion", "generated"]
    counts = {"prompts": 30, "samples": 960, "rewards": 1920, "draws": 60, "diagnostics": 30}
    for name, rows in counts.items():
        opened = datasets.load_dataset(tilted.folder, name, split="train", cache_dir=cache)
        assert opened.num_rows == rows
        scanned = pl.scan_parquet(f"{tilted.folder}/{name}/**/*.parquet").collect()
        assert scanned.height == rows
        assert scanned.columns == list(schemas.TABLES[name])


def test_the_manifest_says_what_the_data_was_made_with(tilted):
    folder = Path(tilted.folder)
    said = json.loads((folder / "manifest.json").read_text())
    assert said["configuration"]["lam"] == [1.0, -0.25]
    assert said["p0"]["revision"] == "toy-1"
    assert [r["value"] for r in said["rewards"]] == ["bees", "length"]
    assert all(r["revision"].startswith("blake2b:") for r in said["rewards"])
    assert said["made_with"]["polars"] == pl.__version__
    assert said["summary"]["tokens"] > 0
    found = {str(p.relative_to(folder)) for p in folder.rglob("*.parquet")}
    assert found == set(said["files"])
    for name, file in said["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"]
        assert pl.read_parquet(folder / name).height == file["rows"]


def test_fewer_shards_leave_no_file_of_before(toy):
    run(prepare(toy(end=150, shard_size=32)))
    summary = run(prepare(toy(end=150, shard_size=64)))
    assert len(list(Path(summary.folder).glob("samples/*.parquet"))) == 3


def test_a_merge_that_fails_leaves_the_old_records(toy, monkeypatch):
    from exptilt.outputs import shard_writer

    config = toy()
    before = Path(run(prepare(config)).json)
    text = before.read_text()
    monkeypatch.setattr(shard_writer, "rewards_of", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(prepare(config))
    assert before.read_text() == text
    assert list(before.parent.glob(".*.tmp")) == []
