"""Top-up: more samples only where the ESS asks for them, the same that a larger n would draw, made once."""

import json
from pathlib import Path

import polars as pl
import pytest
from test_pipeline import go, records, table

from exptilt.config.validation import build
from exptilt.errors import ConfigError

STRONG = {"lam": 3.0, "nsamples": 8, "min_ess": 4.0, "max_nsamples": 64}


def test_only_prompts_in_need_get_more_and_the_same_as_a_larger_n_gives(toy, tmp_path):
    topped = go(toy(**STRONG))
    said = table(topped, "diagnostics")
    counts = dict(said.select("prompt_id", "n").iter_rows())
    assert set(counts.values()) <= {8, 16, 32, 64}
    assert len(set(counts.values())) > 1
    assert topped.samples == sum(counts.values())
    assert said.filter(pl.col("n") < 64)["ess"].min() >= 4.0
    whole = go(toy(lam=3.0, nsamples=64, save_directory=str(tmp_path / "whole")))
    sizes = table(topped, "samples").join(
        said.select("prompt_id", "n"), on="prompt_id", maintain_order="left"
    )
    expected = table(whole, "samples").join(
        said.select("prompt_id", "n"), on="prompt_id", maintain_order="left"
    )
    expected = expected.filter(pl.col("sample_index") < pl.col("n"))
    columns = ["prompt_id", "sample_index", "completion", "seed"]
    assert sizes.select(columns).equals(expected.select(columns))


def test_a_second_run_draws_nothing_and_shards_change_nothing(toy, tmp_path):
    strong = {**STRONG, "end": 70}
    first, again = go(toy(**strong)), go(toy(**strong, shard_size=70))
    assert again.tokens == 0
    assert again.reused["samples"] == again.shards
    other = go(toy(**strong, shard_size=32, save_directory=str(tmp_path / "other")))
    assert records(first) == records(again) == records(other)
    for name in ("samples", "draws", "diagnostics", "levels"):
        assert table(first, name).equals(table(other, name))


def test_what_the_pool_holds_beyond_n_changes_nothing(toy, tmp_path):
    alone = go(toy(**STRONG, save_directory=str(tmp_path / "alone")))
    go(toy(lam=0.0, nsamples=32))
    assert records(go(toy(**STRONG))) == records(alone)


def test_where_the_ess_is_good_nothing_is_added(toy):
    plain, topped = go(toy(lam=0.1)), go(toy(lam=0.1, min_ess=8.0))
    assert records(topped) == records(plain)
    assert topped.samples == 30 * 32


def test_the_manifest_and_the_summary_say_it(toy):
    topped = go(toy(**STRONG))
    manifest = json.loads(Path(topped.folder, "manifest.json").read_text())
    assert manifest["configuration"]["min_ess"] == 4.0
    assert manifest["summary"]["samples"] == topped.samples > 30 * 8
    said = Path(topped.folder, "README.md").read_text()
    assert f"{topped.samples - 30 * 8:,} of them to raise the ESS" in said


def test_a_limit_that_adds_nothing_is_refused():
    from exptilt.config.settings import MCAligned

    with pytest.raises(ConfigError, match="--max-nsamples 32 leaves nothing to add to --nsamples 32"):
        build(MCAligned, {"min_ess": 4, "max_nsamples": 32})
