"""Laws of a whole run on the toy engine: what is kept follows p_λ, and layout changes nothing."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from test_tilt import bernoulli_law

from exptilt.config.settings import MCAligned
from exptilt.engines.toy import ToyEngine
from exptilt.errors import RewardError, ShardsFailed
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.reports.summary import Summary
from exptilt.stages.blocks import BLOCK, LARGE_BLOCK, LARGE_FROM, blocks_of, numbers_of, width_of
from exptilt.stages.shards import LARGEST_SHARD, rows_of, shard_size
from exptilt.storage import pool, process_identity

LEVEL = 1e-4
DAMAGE = ("delete", "truncate", "flip", "no manifest", "zeroed manifest", "flipped meta")
FUTURE = 4_000_000_000  # seconds: the year 2096


def go(config) -> Summary:
    return run(prepare(config))


def records(summary: Summary) -> list[dict]:
    return json.loads(Path(summary.json).read_text())


def table(summary: Summary, name: str) -> pl.DataFrame:
    return pl.read_parquet(f"{summary.folder}/{name}/**/*.parquet")


@pytest.mark.parametrize(("lam", "n"), [(1.0, 32), (-2.0, 32), (3.0, 8)])
def test_what_is_kept_follows_the_exact_finite_n_law(toy, lam, n):
    """The hits over 240 prompts against the sum of their exact laws, each from enumeration."""
    config = toy(lam=lam, nsamples=n, end=None)
    engine = ToyEngine(prepare(config).recipe.p0)
    kept = records(go(config))
    chances = []
    for record in kept:
        p = sum(q for text, q in engine.enumerate(record["prompt"]) if "b" in text)
        chances.append(bernoulli_law(p, lam, n))
    spread = np.sqrt(sum(q * (1 - q) for q in chances))
    z = (sum(record["bees"] for record in kept) - sum(chances)) / spread
    assert 2 * stats.norm.sf(abs(z)) > LEVEL


def test_one_shard_equals_seven(toy, tmp_path):
    one = go(toy(end=220, nsamples=8, shard_size=220))
    seven = go(toy(end=220, nsamples=8, shard_size=1, save_directory=str(tmp_path / "other")))
    assert (one.shards, seven.shards) == (1, 7)
    assert records(one) == records(seven)
    for name in ("samples", "rewards", "draws", "diagnostics"):
        assert table(one, name).equals(table(seven, name))


def test_64_samples_extend_32_and_draw_only_the_rest(toy):
    few = go(toy(nsamples=32))
    old, kept = table(few, "samples"), records(few)
    many = go(toy(nsamples=64))
    assert 0.5 < many.tokens / few.tokens < 2
    assert table(many, "samples").filter(pl.col("sample_index") < 32).equals(old)
    again = go(toy(nsamples=32))
    assert (again.tokens, records(again)) == (0, kept)


def test_another_lambda_draws_and_scores_nothing(toy):
    first = go(toy(lam=1.0))
    second = go(toy(lam=-2.5, ndraws=3))
    assert first.tokens > 0
    assert second.tokens == 0
    assert second.reused == {"samples": second.shards, "bees": second.shards}
    assert second.kept == 90


def test_another_value_draws_nothing_and_scores_only_itself(toy, rewards_file):
    go(toy())
    both = go(toy(lam=(1.0, 0.1), value=(f"{rewards_file}:bees", f"{rewards_file}:length")))
    assert both.reused == {"samples": both.shards, "bees": both.shards, "length": 0}


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.9}, {"max_new_tokens": 3}]
)
def test_whatever_defines_p0_is_in_the_key(toy, change):
    go(toy())
    assert go(toy(**change)).reused["samples"] == 0


def test_a_changed_reward_file_is_scored_again(toy, tmp_path, monkeypatch):
    """By its text, though it has the size and the time of the one before."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    own = tmp_path / "own.py"
    own.write_text("def tone(prompts, completions):\n    return [1.0] * len(prompts)\n")
    os.utime(own, (1e9, 1e9))
    go(toy(value=f"{own}:tone"))
    own.write_text("def tone(prompts, completions):\n    return [2.0] * len(prompts)\n")
    os.utime(own, (1e9, 1e9))
    changed = go(toy(value=f"{own}:tone"))
    assert changed.reused == {"samples": changed.shards, "tone": 0}
    assert {r["tone"] for r in records(changed)} == {2.0}


def test_another_function_under_the_same_name_is_scored_again(toy, rewards_file):
    go(toy(value=f"own={rewards_file}:bees"))
    other = go(toy(value=f"own={rewards_file}:length"))
    assert other.reused["own"] == 0
    assert {r["own"] for r in records(other)} > {0.0, 1.0}


def test_the_original_run_is_sample_0_of_the_aligned_one(toy, toy_original):
    plain = go(toy_original())
    tilted = go(toy())
    first = table(tilted, "samples").filter(pl.col("sample_index") == 0)
    texts = [r["generated"].removeprefix(r["prompt"]) for r in records(plain)]
    assert first["completion"].to_list() == texts


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("stage", ["samples", "rewards", "draws", "prompts"])
def test_a_damaged_entry_is_noticed_and_made_again(toy, stage, damage):
    config: MCAligned = toy()
    before = records(go(config))
    root = Path(config.save_directory) / "pool" / stage
    file = next(iter(sorted(root.rglob("*.parquet"))))
    hurt(file, damage)
    assert pool.find(str(file.parent)) is None
    after = go(config)
    assert records(after) == before
    assert pool.find(str(file.parent)) is not None
    if stage == "samples":
        assert after.reused["samples"] == after.shards - 1


def test_a_clock_that_was_moved_backwards_changes_nothing(toy, monkeypatch):
    before = go(toy())
    pool_files = [p for p in Path(toy().save_directory).rglob("*") if p.is_file()]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dead:
        held = process_identity.me() | {"pid": dead.pid, "born": process_identity._born(dead.pid)}
    file = min((Path(toy().save_directory) / "pool/samples").rglob("samples-*.parquet"))
    hurt(file, "delete")
    entry = file.parent
    entry.with_name(f"{entry.name}.lease").write_text(json.dumps(held))
    for file in pool_files:
        if file.exists():
            os.utime(file, (FUTURE, FUTURE))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    after = go(toy())
    assert records(after) == records(before)
    assert after.reused == {"samples": after.shards - 1, "bees": after.shards}


def hurt(file: Path, damage: str) -> None:
    data = file.read_bytes()
    manifest = file.parent / "manifest.json"
    match damage:
        case "delete":
            file.unlink()
        case "truncate":
            file.write_bytes(data[:-7])
        case "flip":
            file.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        case "no manifest":
            manifest.unlink()
        case "zeroed manifest":
            manifest.write_bytes(b"\0" * manifest.stat().st_size)
        case "flipped meta":
            text = manifest.read_text()
            place = text.index('"meta"') + 2  # a bit of a word that no table's checksum covers
            manifest.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])


def test_a_reward_that_is_not_finite_is_named(toy, rewards_file):
    with pytest.raises(ShardsFailed, match=r"'broken'.*nan for prompt \d+ \(.*\), sample \d+"):
        go(toy(value=f"{rewards_file}:broken"))


def test_a_reward_of_the_wrong_shape_or_kind_is_named(toy, rewards_file):
    with pytest.raises(ShardsFailed, match=r"'short'.*shape \(1,\)"):  # right for the one sample of a trial
        go(toy(value=f"{rewards_file}:short"))
    with pytest.raises(RewardError, match=r"'words'.*not numbers"):
        prepare(toy(value=f"{rewards_file}:words"))


def test_a_large_lambda_is_called_by_its_name(toy, rewards_file):
    calm = go(toy(lam=0.01, value=f"{rewards_file}:rank"))
    wild = go(toy(lam=200.0, value=f"{rewards_file}:rank"))
    assert calm.warning is None
    assert wild.warning is not None
    assert wild.warning.startswith("best-of-32 in disguise: at 100% of the prompts")


def shards_of(prompts: int, n: int, devices: int = 1) -> list[int]:
    """Prompts of each shard that a run of so many makes."""
    blocks = Counter(numbers_of(range(prompts)).tolist())
    return rows_of(blocks, shard_size(prompts, n, devices))


def test_blocks_are_32_prompts_and_256_from_prompt_8192_on():
    indices = [0, 31, 32, 8_160, 8_191, 8_192, 8_447, 8_448, 999_999]
    assert numbers_of(indices).tolist() == [0, 0, 1, 255, 255, 256, 256, 257, 4_130]
    widths = Counter(numbers_of(range(20_000)).tolist())
    assert all(widths[number] == width_of(number) for number in range(max(widths)))


@pytest.mark.parametrize(("start", "end"), [(0, 100), (8_000, 9_000), (8_150, 8_200), (10_000, 10_001)])
def test_a_block_depends_on_the_prompts_alone_and_none_is_lost(start, end):
    table = pl.DataFrame({"prompt_index": range(start, end)})
    blocks = blocks_of(table)
    assert pl.concat([block.prompts for block in blocks]).equals(table)
    for block in blocks:
        mine = block.prompts["prompt_index"].to_list()
        assert set(numbers_of(mine).tolist()) == {block.number}


@pytest.mark.parametrize("prompts", [1, 31, 32, 33, 240, 2312, 9_000, 100_000])
@pytest.mark.parametrize("n", [1, 16, 1024])
@pytest.mark.parametrize("devices", [1, 8])
def test_shards_are_whole_blocks_and_not_too_many(prompts, n, devices):
    found = shards_of(prompts, n, devices)
    assert sum(found) == prompts
    assert all(height % BLOCK == 0 for height in found[:-1])
    assert all(end <= LARGE_FROM or (end - LARGE_FROM) % LARGE_BLOCK == 0 for end in accumulate(found[:-1]))
    assert max(found) <= LARGEST_SHARD
    assert len(found) <= 100


def test_shards_fill_batches_and_keep_devices_busy():
    assert shards_of(6, 16) == [6]
    assert shards_of(300, 1) == [160, 140]
    assert len(shards_of(2312, 16)) == 19
    assert len(shards_of(256, 1, devices=4)) == 8


WHOLE = {"end": 100, "nsamples": 8}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"shard_size": 32}, {"shard_size": 100}),
        ({"shard_size": 100}, {"shard_size": 1}),
        ({"device": "cpu"}, {"device": "cpu:0,cpu:1,cpu:2"}),
        ({}, {"start": 32, "end": 96}),
        ({"end": 96}, {"end": 64}),
    ],
)
def test_no_key_depends_on_shards_devices_or_the_range(toy, first, then):
    """A block that two runs have in common is drawn, scored and tilted once."""
    go(toy(**{**WHOLE, **first}))
    again = go(toy(**{**WHOLE, **then}))
    assert (again.tokens, set(again.reused.values())) == (0, {again.shards})
    drawn = [path.parent for path in Path(toy().save_directory, "pool", "draws").rglob("manifest.json")]
    assert len(drawn) == -(-first.get("end", 100) // BLOCK)


def test_shards_of_any_size_share_large_blocks(toy, tmp_path):
    """The same rows, and no sample twice, where small blocks end and large ones begin."""
    (tmp_path / "many.txt").write_text("".join(f"prompt {i}\n" for i in range(LARGE_FROM + 600)))
    part = {"data": str(tmp_path / "many.txt"), "start": LARGE_FROM - 50, "end": None, "nsamples": 2}
    alone = go(toy(**part, shard_size=32))
    assert [s.n_prompts for s in prepare(toy(**part, shard_size=32)).shards] == [18, 32, 256, 256, 88]
    together = go(toy(**part, shard_size=5_000))
    assert (together.shards, together.tokens) == (1, 0)
    assert set(together.reused.values()) == {1}
    anew = go(toy(**part, shard_size=5_000, save_directory=str(tmp_path / "anew")))
    assert records(alone) == records(together) == records(anew)


def test_a_range_draws_only_the_blocks_that_are_new(toy):
    go(toy(end=70, nsamples=8))
    more = go(toy(end=140, nsamples=8))
    alone = go(toy(end=140, nsamples=8, save_directory=toy().save_directory + "2"))
    assert records(more) == records(alone)
    new = (
        table(more, "samples")
        .join(table(more, "prompts"), on="prompt_id")
        .filter(pl.col("prompt_index") >= 64)
    )
    assert more.tokens == new["n_tokens"].sum() + (new["finish_reason"] == "stop").sum()
