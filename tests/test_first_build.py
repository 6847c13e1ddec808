"""A pool that the first build wrote is still a pool: its keys are found, its tables read, its rows kept."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import StorageError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.storage import filesystem, keys, pool, schemas

WRITTEN = Path(__file__).parent / "first_build"
RUNS = [
    {"basemodel": "toy", "value": "rewards.py:bees", "lam": "1", "nsamples": 4},
    {
        "basemodel": "demo",
        "value": "humor,rewards.py:bees",
        "lam": "1,0.5",
        "nsamples": 2,
        "max_new_tokens": 12,
        "dtype": "float32",
    },
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The pool, its prompts and its reward in the current folder."""
    shutil.copytree(WRITTEN / "pool", tmp_path / "old" / "pool")
    for name in ("prompts.txt", "rewards.py"):
        shutil.copy(WRITTEN / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("settings", RUNS, ids=["toy", "demo"])
def test_everything_in_it_is_used_again_and_gives_the_same_records(folder, settings):
    config = build(MCAligned, {**settings, "data": "prompts.txt", "save_directory": "old"})
    summary = run(prepare(config))
    assert summary.tokens == 0
    assert set(summary.reused.values()) == {summary.shards}
    name = Path(summary.json).name
    now, then = (json.loads((place / name).read_text()) for place in (Path("old"), WRITTEN))
    assert [{name: value for name, value in row.items() if name != "completion"} for row in now] == then


def test_a_column_that_came_later_reads_as_null(tmp_path):
    table = pl.DataFrame({"prompt_id": ["a"], "sample_index": [0], "completion": ["b"], "n_tokens": [1]})
    old = table.cast({"sample_index": pl.Int32, "n_tokens": pl.Int32})
    data = filesystem.parquet_bytes(old)
    filesystem.write_bytes(f"{tmp_path}/samples.parquet", data)
    files = {"samples": {"rows": 1, "bytes": len(data), "sha256": filesystem.sha256(data)}}
    filesystem.write_json(f"{tmp_path}/manifest.json", {"files": files, "meta": {}})
    entry = pool.find(str(tmp_path))
    assert entry is not None
    read = entry.table("samples")
    assert read.schema == schemas.SAMPLES
    assert read.row(0, named=True) | {"completion": "b", "nll": None, "seed": None} == read.row(0, named=True)
    filesystem.write_bytes(f"{tmp_path}/samples.parquet", filesystem.parquet_bytes(old.drop("completion")))
    with pytest.raises(StorageError, match="has changed since it was written"):
        pool.described(str(tmp_path)).table("samples")


def test_a_later_column_that_is_null_changes_no_file():
    old = pl.DataFrame({"prompt_id": ["a", "b"]})
    later = {name: pl.lit(None, dtype={**schemas.SAMPLES, **schemas.PROMPTS}[name]) for name in schemas.LATER}
    assert schemas.stored("samples", old.with_columns(**later)).equals(old)
    known = old.with_columns(tokens=pl.Series([[1, 2], None], dtype=schemas.SAMPLES["tokens"]))
    assert schemas.stored("samples", known).equals(known)


def test_keys_are_what_they_were():
    assert keys.content_key({"a": [1, 2.5, "é"]}) == "93e1f6297e79ab4e11aaac75a6bd805c"
    assert keys.prompt_id("The room was") == "6cfd53c010bc4e258b0f5bb82c603bc9"
    assert keys.prompt_id("The room was", 1) == "9eb2b246cf010412ec4b663b639e35b9"
    assert keys.seed_for(0, "93e1f6297e79ab4e11aaac75a6bd805c", 3) == 7410019257990720562
