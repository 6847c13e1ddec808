"""A shard that ends every process that takes it is given up and named; other ends of processes are not it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import run_flow
from test_flows import latest_run, task_states

from exptilt.config.settings import MCAligned
from exptilt.errors import ShardGivenUp
from exptilt.local_run import prepare, run
from exptilt.stages import claims, deaths
from exptilt.storage import lease, pool

KILLING = """
import os, signal
def bees(prompts, completions):
    if len(prompts) > 100 and {prompt!r} in prompts:
        os.kill(os.getpid(), signal.SIGKILL)
    return [float("b" in c) for c in completions]
"""
COMMAND = "from exptilt import command; command.main()"


@pytest.fixture
def plan(toy):
    """A run of three shards."""
    return prepare(toy(end=96, shard_size=32))


@pytest.fixture(scope="module")
def dead():
    """A process of this machine that has ended."""
    code = (
        "import json; from exptilt.storage import process_identity; print(json.dumps(process_identity.me()))"
    )
    return json.loads(subprocess.check_output([sys.executable, "-c", code]))


def die(claimed, place: int, holder: dict, times: int = 1, **said) -> None:
    """Leave the lease of a process that died with a shard, and take it over."""
    for _ in range(times):
        path = Path(claimed._paths[place])
        claimed.give_back(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"token": "dead", "beat": 0, "stopping": False, **holder, **said}))
        assert claimed._leases.try_take(str(path))
        time.sleep(0.02)


@pytest.fixture
def claimed(plan):
    with claims.of_shards(plan.recipe, plan.shards) as taken:
        yield taken


def test_three_deaths_end_a_shard_where_their_machine_computes_others(plan, claimed, dead):
    die(claimed, 0, dead)
    deaths.note_computed(plan.recipe.workspace)
    die(claimed, 0, dead)
    claimed.check(0)
    die(claimed, 0, dead)
    with pytest.raises(ShardGivenUp, match="3 processes died while they had it") as given_up:
        claimed.check(0)
    claimed.check(1)
    path = str(given_up.value).partition("then remove ")[2].partition(" and")[0]
    os.remove(path)
    claimed.check(0)


def test_a_machine_that_computes_nothing_else_proves_nothing(plan, claimed, dead):
    deaths.note_computed(plan.recipe.workspace)
    time.sleep(0.02)
    die(claimed, 0, dead, times=4)
    claimed.check(0)


def test_a_process_that_was_asked_to_stop_counts_as_none(plan, claimed, dead):
    die(claimed, 0, dead, times=4, stopping=True)
    deaths.note_computed(plan.recipe.workspace)
    claimed.check(0)


def test_a_lease_says_that_its_process_is_asked_to_stop(plan, claimed, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with claims.of_shards(plan.recipe, plan.shards) as mine, plan.run.entered():
        path = Path(mine._paths[mine.take()])
        assert not json.loads(path.read_text())["stopping"]
        plan.run.stop()
        time.sleep(0.5)
        assert json.loads(path.read_text())["stopping"]


def test_a_shard_that_is_done_is_forgotten(toy, plan, dead):
    with claims.of_shards(plan.recipe, plan.shards) as claimed:
        die(claimed, 0, dead, times=2)
    folder = plan.recipe.workspace.path("claims")
    assert any(name.endswith(".deaths") for name in os.listdir(folder))
    run(plan)
    assert not any(name.endswith(".deaths") for name in os.listdir(folder))


def test_a_machine_that_proves_nothing_is_believed_in_the_end(plan, claimed, dead):
    die(claimed, 0, dead, times=deaths.MOST_ANYWHERE)
    with pytest.raises(ShardGivenUp, match=f"{deaths.MOST_ANYWHERE} processes died"):
        claimed.check(0)


def test_a_value_that_kills_every_process_costs_its_shard_alone(toy, dead, tmp_path):
    plan = prepare(toy(end=96, shard_size=32, save_directory=str(tmp_path / "killed")))
    with claims.of_shards(plan.recipe, plan.shards) as claimed:
        die(claimed, 1, dead)
    prompt = pool.find(plan.shards[1].prompts).table("prompts")["prompt"][0]
    (tmp_path / "own.py").write_text(KILLING.format(prompt=prompt))
    settings = ["--basemodel", "toy", "--value", f"{tmp_path}/own.py:bees", "--lam", "1", "--end", "96"]
    root = ["--shard-size", "32", "--save-directory", str(tmp_path / "killed")]
    codes = []
    while len(codes) < 15 and 1 not in codes:
        command = [sys.executable, "-c", COMMAND, "mc-aligned", *settings, *root]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        codes.append(done.returncode)
    assert (codes[-1], set(codes[:-1])) == (1, {-signal.SIGKILL})
    assert "shard 002: given up: 3 processes died" in done.stderr
    assert len(list(tmp_path.glob("killed/pool/rewards/*/manifest.json"))) == 2


@pytest.mark.soak
def test_a_flow_shows_what_it_gives_up(server, tmp_path, rewards_file, dead):
    settings = {"basemodel": "toy", "value": f"{rewards_file}:bees", "lam": 1.0, "end": 96, "shard_size": 32}
    plan = prepare(MCAligned(**settings, save_directory=str(tmp_path / "results")))
    with claims.of_shards(plan.recipe, plan.shards) as claimed:
        die(claimed, 1, dead, times=3)
    deaths.note_computed(plan.recipe.workspace)
    line = [word for name, given in settings.items() for word in (f"--{name.replace('_', '-')}", str(given))]
    done = run_flow(*line, env=server, cwd=tmp_path)
    assert done.returncode == 1
    assert "shard 002: given up: 3 processes died" in done.stderr
    states = task_states(server, latest_run(server))
    assert states["give up 002/003"] == "Failed"
    assert Counter(states.values()) == {"Completed": 7, "Failed": 1}
