"""Sweeps and palettes as a user runs them: over a pool, over a scored file, and beside a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, noise, run_flow

SWEEP, PALETTE, SCORE = (ROOT / "flows" / f"{name}.py" for name in ("sweep", "palette", "score"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the module's runs share a pool."""
    return tmp_path_factory.mktemp("explored")


@pytest.fixture(scope="module")
def toy_pool(server, folder, rewards_file) -> list[str]:
    """The flags of a run whose pool is there."""
    flags = ["--basemodel", "toy", "--end", "40", "--nsamples", "16", "--value", f"{rewards_file}:bees"]
    assert run_flow(*flags, "--lam", "1", env=server, cwd=folder).returncode == 0
    return flags


def samples_written(folder: Path) -> dict[Path, int]:
    """Every file of samples in the pool, and when it was written."""
    files = (folder / "results/pool/samples").rglob("*.parquet")
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.soak
def test_a_sweep_over_a_pool_draws_and_scores_nothing(server, folder, toy_pool):
    before = samples_written(folder)
    arguments = [*toy_pool, "--lam", "bees=-1:2:0.5", "--save", "5,7"]
    done = run_flow(*arguments, env=server, cwd=folder, file=SWEEP)
    assert done.returncode == 0, done.stderr
    assert noise(done) == []
    assert samples_written(folder) == before
    points = json.loads((folder / "results/temp/toy-demo_sweep_val=bees_0to40.json").read_text())
    levels = [point["levels"]["bees"]["mean"] for point in points]
    assert levels == sorted(levels)
    assert len(set(levels)) == 7
    run = json.loads((folder / "results/temp/toy-demo_lam=1.000_val=bees_0to40.json").read_text())
    assert np.mean([record["bees"] for record in run]) == pytest.approx(levels[4], abs=0.25)
    assert "data set 5" in done.stdout
    saved = folder / "results/temp/toy-demo_lam=2.000_val=bees_0to40.json"
    assert len(json.loads(saved.read_text())) == 40


def test_a_palette_gives_the_flags_that_bring_it(server, folder, toy_pool):
    done = run_flow(*toy_pool, "--target", "bees=+0.1", env=server, cwd=folder, file=PALETTE)
    assert done.returncode == 0, done.stderr
    assert noise(done) == []
    (saved,) = (folder / "results/temp").glob("*_palette_*.json")
    answer = json.loads(saved.read_text())["palette"]
    lam = answer["levels"][0]["lam"]
    assert f"--lam bees={lam:.4g}" in done.stdout
    beyond = run_flow(*toy_pool, "--target", "bees=2", env=server, cwd=folder, file=PALETTE)
    assert beyond.returncode == 1
    assert "out of reach: bees" in beyond.stdout


@pytest.mark.soak
def test_a_scored_file_serves_a_sweep_and_a_palette(server, tmp_path, rewards_file):
    texts = ["b", "", "ab", "aaaa", "bb"]
    records = [{"prompt": f"x{k}", "generated": f"x{k}{t}"} for k in range(30) for t in texts[: 3 + k % 3]]
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(records))
    values = f"{rewards_file}:bees,{rewards_file}:length"
    assert (
        run_flow("--file", str(file), "--value", values, env=server, cwd=tmp_path, file=SCORE).returncode == 0
    )
    arguments = [
        "--file",
        str(file),
        "--value",
        "bees,length",
        "--lam",
        "1,0",
        "--lam",
        "0,-1",
        "--save",
        "all",
    ]
    done = run_flow(*arguments, env=server, cwd=tmp_path, file=SWEEP)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "results/texts_lam=0.000,-1.000_val=bees,length.json").read_text())
    assert len(kept) == 30
    assert {record["generated"] for record in kept} <= {record["generated"] for record in records}
    target = ["--file", str(file), "--target", "bees=+0.05,length=keep"]
    done = run_flow(*target, env=server, cwd=tmp_path, file=PALETTE)
    assert done.returncode == 0, done.stderr
    assert "feasible at KL" in done.stdout


def test_training_tables_open_with_datasets(server, folder, toy_pool):
    from datasets import load_dataset

    done = run_flow(*toy_pool, "--lam", "1", "--export", "all", "--ndraws", "2", env=server, cwd=folder)
    assert done.returncode == 0, done.stderr
    made = folder / "results/temp/toy-demo_lam=1.000_val=bees_0to40"

    def table(name: str) -> list[dict]:
        cache = str(folder / "cache")
        return list(load_dataset(str(made), name, split="train", cache_dir=cache))

    weighted = table("weighted")
    assert len(weighted) == 40 * 16
    sums: dict[str, float] = {}
    for row in weighted:
        sums[row["prompt_id"]] = sums.get(row["prompt_id"], 0.0) + row["weight"]
    assert list(sums.values()) == pytest.approx([1.0] * 40)
    pairs, chats = table("pairs"), table("pairs-chat")
    assert 0 < len(pairs) == len(chats) <= 40
    for pair, chat in zip(pairs, chats, strict=True):
        assert "b" in pair["chosen"]
        assert "b" not in pair["rejected"]
        assert pair["margin"] == pair["score_chosen"] - pair["score_rejected"] == 1.0
        assert chat["prompt"] == [{"role": "user", "content": pair["prompt"]}]
        assert chat["chosen"] == [{"role": "assistant", "content": pair["chosen"]}]
        assert chat["rejected"] == [{"role": "assistant", "content": pair["rejected"]}]
    sft, chat = table("sft"), table("sft-chat")
    assert len(sft) == len(chat) == 80
    assert chat[0]["messages"][1] == {"role": "assistant", "content": sft[0]["completion"]}
    page = (made / "index.html").read_text()
    assert "<svg" in page
    assert "suffice at" in page or "too few at" in page
