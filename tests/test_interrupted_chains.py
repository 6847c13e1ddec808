"""Chains and steered draws of machines that come and go: the rows of a run alone, and nothing made twice."""

import signal
from pathlib import Path

import pytest
from interruptions import complete, tables, traces
from processes import wait_until
from test_sharing import QUICK, command, running

from exptilt.config.settings import MCAligned
from exptilt.local_run import prepare, run

__all__ = ["running"]
NAME = "temp/toy-demo_lam=1.000_val=bees_0to128"
VALUE = """
import time
def bees(prompts, completions):
    time.sleep({seconds})
    return [float("b" in c) for c in completions]
"""
STEERED = {"nsamples": 4, "refine": 12, "steer": True, "block_tokens": 2, "end": 128}
FLAGS = "--nsamples 4 --refine 12 --steer --block-tokens 2 --end 128".split()


def value(folder: Path, seconds: float) -> str:
    (folder / "own.py").write_text(VALUE.format(seconds=seconds))
    return f"{folder / 'own.py'}:bees"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The tables of a run that was alone."""
    folder = tmp_path_factory.mktemp("alone")
    config = {"basemodel": "toy", "value": value(folder, 0), "lam": 1.0, "shard_size": 32, **STEERED}
    run(prepare(MCAligned(**config, save_directory=str(folder / "results"))))
    return tables(folder, NAME)


@pytest.mark.parametrize("stage", ["steered", pytest.param("chains", marks=pytest.mark.soak)])
def test_one_that_is_killed_leaves_them_to_another(running, tmp_path, expected, stage):
    line = command(str(tmp_path / "results"), "--value", value(tmp_path, 0.03), *FLAGS, start=QUICK)
    first = running.start(line)
    wait_until(lambda: len(list(tmp_path.glob(f"results/pool/{stage}/*/manifest.json"))) >= 5)
    first.send_signal(signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL
    before = complete(tmp_path)
    assert running.start(line).wait(240) == 0, running.said()
    after = complete(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert tables(tmp_path, NAME) == expected
    assert traces(tmp_path) == []


@pytest.mark.soak
def test_two_machines_share_them(running, tmp_path, expected):
    line = command(str(tmp_path / "results"), "--value", value(tmp_path, 0.03), *FLAGS)
    both = [running.start(line) for _ in range(2)]
    assert [process.wait(240) for process in both] == [0, 0], running.said()
    assert tables(tmp_path, NAME) == expected
