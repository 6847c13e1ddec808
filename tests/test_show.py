"""One prompt of a data set in the terminal: its completions by weight with their numbers, uncut in a pipe."""

import os
import subprocess
import sys

import polars as pl
import pytest
from processes import s3_server

from exptilt.config.settings import MCAligned, Original
from exptilt.errors import ConfigError
from exptilt.local_run import prepare, run
from exptilt.outputs import saved_prompt

COMMAND = [sys.executable, "-c", "from exptilt import command; command.main()", "show"]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory, rewards_file):
    root = tmp_path_factory.mktemp("show")
    values = f"{rewards_file}:bees,{rewards_file}:length"
    settings = {
        "value": values,
        "lam": (1.0, 0.1),
        "end": 70,
        "shard_size": 32,
        "ndraws": 3,
        "export": "pairs",
    }
    return run(prepare(MCAligned(basemodel="toy", **settings, save_directory=str(root))))


def tables(data_set, name: str) -> pl.DataFrame:
    return pl.read_parquet(f"{data_set.folder}/{name}/*.parquet")


@pytest.mark.parametrize("index", [0, 40, 69])
def test_a_prompt_has_its_samples_by_weight(data_set, index):
    shown = saved_prompt.find(data_set.folder, str(index))
    mine = pl.col("prompt_id") == shown.prompt_id
    samples = tables(data_set, "samples").filter(mine)
    assert (shown.index, shown.count) == (index, samples.height)
    assert sorted(s.completion for s in shown.samples) == sorted(samples["completion"])
    weights = [s.weight for s in shown.samples]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1)
    assert sum(s.kept for s in shown.samples) == 3
    assert shown.ess == tables(data_set, "diagnostics").filter(mine)["ess"].item()
    rewards = tables(data_set, "rewards/length").filter(mine)["reward"]
    assert sorted(s.numbers["length"] for s in shown.samples) == sorted(rewards)
    assert sorted(s.role for s in shown.samples)[-2:] == ["chosen", "rejected"]
    assert saved_prompt.find(data_set.folder, shown.prompt_id) == shown


def test_without_a_tilt_all_completions_are_kept(tmp_path):
    summary = run(prepare(Original(basemodel="toy", end=3, nsamples=4, save_directory=str(tmp_path))))
    shown = saved_prompt.find(summary.folder)
    assert (shown.index, shown.verdict, [s.kept for s in shown.samples]) == (0, "", [1] * 4)


@pytest.mark.parametrize("prompt", ["70", "-1", "no such id", "9" * 30])
def test_a_prompt_that_is_not_there_is_named(data_set, prompt):
    with pytest.raises(ConfigError, match=f"--prompt {prompt}: .* has no prompt of this id or index"):
        saved_prompt.find(data_set.folder, prompt)


def test_the_command_prints_it_uncut(data_set, tmp_path):
    done = subprocess.run(
        [*COMMAND, data_set.folder, "--prompt", "40"], capture_output=True, text=True, check=True
    )
    shown = saved_prompt.find(data_set.folder, "40")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"prompt 40 ({shown.prompt_id}), 32 samples, ESS ")
    assert lines[2].split()[:4] == ["kept", "weight", "bees", "length"]
    assert len(lines) == 3 + 32
    nothing = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (nothing.returncode, nothing.stderr) == (
        2,
        f"error: {tmp_path}: no data set lies there; give the folder that a run names\n",
    )


def test_it_reads_from_s3(tmp_path):
    with s3_server(tmp_path / "store") as env:
        line = ["original", "--basemodel", "toy", "--end", "3", "--save-directory", "s3://bucket/results"]
        where = {**os.environ, **env}
        subprocess.run([*COMMAND[:-1], *line], env=where, check=True, capture_output=True)
        folder = "s3://bucket/results/temp/toy-demo_0to3"
        done = subprocess.run([*COMMAND, folder], env=where, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("prompt 0 (")
