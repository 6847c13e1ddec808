"""Three runs on one root, one of them killed at random moments: rows as of one run alone. make soak."""

import os
import random
import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest
from interruptions import tables, traces
from processes import s3_server
from test_sharing import QUICK, Running, command, value

from exptilt.config.settings import MCAligned
from exptilt.local_run import prepare, run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
MOMENTS = int(os.environ.get("EXPTILT_SOAK_MOMENTS", "10"))
SEED = 20_261_125


@pytest.fixture(scope="module")
def alone(tmp_path_factory, rewards_file):
    """The tables of a run that was alone."""
    folder = tmp_path_factory.mktemp("alone")
    config = {"basemodel": "toy", "value": f"{rewards_file}:bees", "lam": 1.0, "shard_size": 32}
    run(prepare(MCAligned(**config, save_directory=str(folder / "results"))))
    return tables(folder)


def done_again(folder: Path) -> dict[str, list[str]]:
    """The processes that scored a shard, for every shard that was scored more than once."""
    found = defaultdict(list)
    for line in (folder / "log").read_text().splitlines():
        who, _, shard = line.partition(" ")
        found[shard].append(who)
    return {shard: who for shard, who in found.items() if len(who) > 1}


@pytest.mark.parametrize("on", ["folder", "s3"])
def test_one_of_three_runs_is_killed_at_any_moment(tmp_path, alone, on):
    dice, again = random.Random(f"{SEED} {on}"), 0
    with s3_server(tmp_path / "store") as env:
        for turn in range(MOMENTS):
            folder = tmp_path / f"{turn}"
            folder.mkdir()
            root = f"s3://bucket/{turn}/results" if on == "s3" else f"{folder}/results"
            line = command(root, "--value", value(folder, 0.5, runs=3), start=QUICK)
            with ExitStack() as stack:
                running = Running(stack, folder, env)
                three = [running.start(line) for _ in range(3)]
                while not (folder / "log").exists():
                    time.sleep(0.02)
                time.sleep(dice.uniform(0, 2))
                three[0].send_signal(signal.SIGKILL)
                codes = [process.wait(120) for process in three]
            assert codes[0] in (0, -signal.SIGKILL)
            assert codes[1:] == [0, 0], running.said()
            where = tmp_path / "store/bucket" / str(turn) if on == "s3" else folder
            assert tables(where) == alone
            assert traces(where) == []
            twice = done_again(folder)
            assert all(who[0] == str(three[0].pid) for who in twice.values()), twice
            again += len(twice)
    print(f"\non {on}: {MOMENTS} moments, {again} shards of the killed runs scored again, rows equal")
