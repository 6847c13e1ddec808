"""Runs of one configuration on one root: they take different shards, and each ends with the whole result."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from interruptions import NAME, tables, traces
from processes import ROOT, flow_command, process, s3_server, wait_until
from test_flows import ask, task_states

from exptilt.config.settings import MCAligned
from exptilt.local_run import prepare, run
from exptilt.stages.claims import Claims
from exptilt.stages.workspace import Workspace
from exptilt.storage import filesystem, lease, pool, process_identity

SHARDS = 8
DEAD_HOST = process_identity.me() | {"machine": "far", "token": "dead"}
VALUE = """
import os, pathlib, random, time
there = pathlib.Path({folder!r})
def bees(prompts, completions):
    if len(prompts) > 100:
        (there / f"{{os.getpid()}}.here").touch()
        deadline = time.monotonic() + 60
        while len([*there.glob("*.here")]) < {runs} and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep({seconds})
        with (there / "log").open("a") as f:
            f.write(f"{{os.getpid()}} {{sorted(prompts)[0]}}\\n")
    return [{reward} for c in completions]
"""
COMMAND = "from exptilt import command; command.main()"
QUICK = (
    "import sys; from exptilt.storage import lease; from exptilt import command\n"
    "lease.BEAT, lease.TTL, lease.POLL = 0.2, 2.0, 0.05\n"
    "command.main()"
)  # the console command, which gives up a lease after two seconds


def value(folder: Path, seconds: float, reward: str = "float('b' in c)", runs: int = 2) -> str:
    """A value that waits until so many runs are there, takes its time, and notes who scored which shard."""
    text = VALUE.format(seconds=seconds, folder=str(folder), reward=reward, runs=runs)
    (folder / "own.py").write_text(text)
    return f"{folder / 'own.py'}:bees"


def computed(folder: Path) -> Counter[str]:
    """How many shards each process computed; none is computed twice."""
    lines = [line.partition(" ") for line in (folder / "log").read_text().splitlines()]
    assert len({shard for _, _, shard in lines}) == len(lines)
    return Counter(who for who, _, _ in lines)


def command(root: str, *more: str, lam: str = "1", start: str = COMMAND) -> list[str]:
    """The console command, on a root that is shared."""
    settings = ["--basemodel", "toy", "--lam", lam, "--shard-size", "32", "--save-directory", root, *more]
    return [sys.executable, "-c", start, "mc-aligned", *settings]


class Running:
    """Commands that run at once, killed at the end."""

    def __init__(self, stack: ExitStack, folder: Path, env: dict[str, str] | None = None) -> None:
        self.stack, self.folder, self.env = stack, folder, {**os.environ, **(env or {})}

    def start(self, line: list[str]) -> subprocess.Popen:
        log = self.folder / f"said{len(list(self.folder.glob('said*')))}"
        return self.stack.enter_context(process(line, self.env, log))

    def said(self) -> str:
        return "\n".join(log.read_text() for log in self.folder.glob("said*"))


@pytest.fixture
def running(tmp_path):
    with ExitStack() as stack:
        yield Running(stack, tmp_path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, rewards_file):
    """The tables of a run that was alone."""
    folder = tmp_path_factory.mktemp("alone")
    config = {"basemodel": "toy", "value": f"{rewards_file}:bees", "lam": 1.0, "shard_size": 32}
    run(prepare(MCAligned(**config, save_directory=str(folder / "results"))))
    return tables(folder)


def test_two_runs_take_different_shards_and_both_end_with_the_whole(running, tmp_path, expected):
    line = command(str(tmp_path / "results"), "--value", value(tmp_path, 0.4))
    both = [running.start(line) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0], running.said()
    counts = computed(tmp_path)
    assert counts.total() == SHARDS
    assert min(counts[str(process.pid)] for process in both) >= 1
    assert tables(tmp_path) == expected
    assert traces(tmp_path) == []


def test_a_run_that_joins_later_with_another_lam_shares_the_samples(running, tmp_path):
    root, own = str(tmp_path / "results"), value(tmp_path, 0.4)
    first = running.start(command(root, "--value", own))
    wait_until(lambda: leases(tmp_path) != [])
    second = running.start(command(root, "--value", own, lam="2"))
    assert [first.wait(120), second.wait(120)] == [0, 0], running.said()
    counts = computed(tmp_path)
    assert counts.total() == SHARDS
    assert min(counts[str(process.pid)] for process in (first, second)) >= 1
    assert len(list((tmp_path / "results/pool/samples").iterdir())) == SHARDS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_ends_early_leaves_its_shards_to_the_other(running, tmp_path, expected, number):
    line = command(str(tmp_path / "results"), "--value", value(tmp_path, 0.4))
    both = [running.start(line) for _ in range(2)]
    wait_until(lambda: len(list(tmp_path.glob("*.here"))) == 2)
    both[0].send_signal(number)
    assert both[0].wait(30) == (143 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert str(both[0].pid) not in holders(tmp_path)
    assert both[1].wait(120) == 0, running.said()
    assert tables(tmp_path) == expected
    assert traces(tmp_path) == []


def leases(folder: Path) -> list[Path]:
    return list(folder.glob("results/pool/claims/*.lease"))


def holders(folder: Path) -> set[str]:
    """The processes that hold any lease."""
    found = set()
    for path in folder.rglob("*.lease"):
        if text := path.read_text():
            found.add(str(json.loads(text)["pid"]))
    return found


def test_a_paused_run_that_wakes_later_does_no_harm_even_where_rewards_are_random(running, tmp_path):
    """Another takes its shard meanwhile, with other rewards; it goes on with those of the other."""
    root, own = tmp_path / "results", value(tmp_path, 0.5, "random.random()", runs=1)
    first = running.start(command(str(root), "--value", own, start=QUICK))
    wait_until((tmp_path / "log").exists)
    first.send_signal(signal.SIGSTOP)
    second = running.start(command(str(root), "--value", own, start=QUICK))
    assert second.wait(120) == 0, running.said()
    before = tables(tmp_path)
    first.send_signal(signal.SIGCONT)
    assert first.wait(120) == 0, running.said()
    assert tables(tmp_path) == before
    assert traces(tmp_path) == []
    folder = root / NAME
    rewards = pl.read_parquet(f"{folder}/rewards/bees/*.parquet")
    draws = pl.read_parquet(f"{folder}/draws/*.parquet").join(rewards, on=["prompt_id", "sample_index"])
    assert (draws["log_weight"] - draws["reward"]).abs().max() < 1e-12
    entries = [pool.find(str(path)) for path in (root / "pool/rewards").iterdir()]
    assert len(entries) == SHARDS
    in_pool = pl.concat([entry.table("rewards") for entry in entries])
    assert in_pool.join(rewards, on=rewards.columns, how="anti").is_empty()


def test_on_a_store_that_cannot_exclude_the_rows_are_the_same(tmp_path, expected):
    with s3_server(tmp_path / "store") as env, ExitStack() as stack:
        running = Running(stack, tmp_path, env)
        line = command("s3://bucket/results", "--value", value(tmp_path, 0.5))
        both = [running.start(line) for _ in range(2)]
        assert [process.wait(120) for process in both] == [0, 0], running.said()
    assert tables(tmp_path / "store/bucket") == expected
    assert traces(tmp_path / "store") == []


@pytest.mark.soak
def test_two_flows_show_what_each_did_and_what_it_found(server, running, tmp_path, expected):
    root, own = str(tmp_path / "results"), value(tmp_path, 1.0)
    more = ["--basemodel", "toy", "--value", own, "--lam", "1", "--shard-size", "32"]
    running.env = server
    both = [running.start(flow_command(*more, "--save-directory", root)) for _ in range(2)]
    assert [process.wait(200) for process in both] == [0, 0], running.said()
    counts = computed(tmp_path)
    assert counts.total() == SHARDS
    assert min(counts[str(process.pid)] for process in both) >= 2
    runs = ask(server, "flow_runs", sort="START_TIME_DESC", limit=2)
    states = [state for found in runs for state in task_states(server, found).items()]
    for step in ("generate", "score", "tilt"):
        ends = Counter(state for name, state in states if name.startswith(step))
        assert ends == {"Completed": SHARDS, "Cached": SHARDS}
    assert tables(tmp_path) == expected
    assert traces(tmp_path) == []


@pytest.fixture
def hurried(monkeypatch):
    for name, seconds in (("BEAT", 0.1), ("TTL", 1.0), ("POLL", 0.02)):
        monkeypatch.setattr(lease, name, seconds)


def test_the_leases_of_a_dead_machine_run_out_together(hurried, tmp_path):
    paths = [f"{tmp_path}/{number}.lease" for number in range(10)]
    for path in paths:
        filesystem.write_json(path, DEAD_HOST)
    began = time.monotonic()
    with lease.held(*paths):
        assert time.monotonic() - began < 3 * lease.TTL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", json.dumps(DEAD_HOST).encode()])
def test_a_lease_that_says_nothing_runs_out_as_well(hurried, tmp_path, text):
    (tmp_path / "a.lease").write_bytes(text)
    with lease.Leases() as leases:
        assert not leases.try_take(f"{tmp_path}/a.lease")
        leases.take(f"{tmp_path}/a.lease")


def test_who_finds_its_lease_with_another_leaves_it_there(hurried, tmp_path):
    path = tmp_path / "a.lease"
    with lease.held(str(path)):
        path.write_text(json.dumps(DEAD_HOST))
        time.sleep(5 * lease.BEAT)
        assert json.loads(path.read_text()) == DEAD_HOST
    assert json.loads(path.read_text()) == DEAD_HOST


def test_a_lease_is_kept_alive_and_given_back(hurried, tmp_path):
    path = tmp_path / "a.lease"
    with lease.Leases() as leases, lease.Leases() as others:
        assert leases.try_take(str(path))
        until = time.monotonic() + 2 * lease.TTL
        while time.monotonic() < until:
            assert not others.try_take(str(path))
            time.sleep(0.05)
        leases.give_back(str(path))
        assert others.try_take(str(path))
        time.sleep(3 * lease.BEAT)
        assert not leases.try_take(str(path))
    assert not path.exists()


def claims(toy, tmp_path, count: int) -> Claims:
    config = toy(end=2)
    workspace: Workspace = prepare(config).recipe.workspace
    return Claims(workspace, [f"{tmp_path}/claims/{place}.lease" for place in range(count)])


def test_claims_go_through_all_shards_and_put_those_of_others_to_the_end(toy, tmp_path):
    with claims(toy, tmp_path, 6) as one, claims(toy, tmp_path, 6) as two:
        assert two.take() is not None
        (held,) = [int(path.stem) for path in (tmp_path / "claims").iterdir()]
        mine = [one.take() for _ in range(5)]
        assert sorted([*mine, held]) == list(range(6))
        assert (one.take(), two.take(), one.left, two.left) == (None, None, 1, 5)
        two.give_back(held)
        assert (one.take(), one.take(), one.left) == (held, None, 0)
        for place in mine:
            one.give_back(place)
        assert sorted(two.take() for _ in range(5)) == sorted(mine)
    assert list((tmp_path / "claims").iterdir()) == []


def test_threads_of_one_run_share_its_claims(toy, tmp_path):
    taken, lock = [], threading.Lock()

    def work(claimed: Claims) -> None:
        for _ in range(5):
            with claimed.next() as place, lock:
                taken.append(place)

    with claims(toy, tmp_path, 20) as claimed:
        threads = [threading.Thread(target=work, args=(claimed,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(taken) == list(range(20))


def test_claims_that_cannot_be_written_stop_no_run(toy, tmp_path):
    (tmp_path / "claims").write_text("a file where the folder should be")
    with claims(toy, tmp_path, 3) as claimed:
        assert sorted(claimed.take() for _ in range(3)) == [0, 1, 2]
        claimed.give_back(1)
    assert re.fullmatch("a file.*", (tmp_path / "claims").read_text())


def test_each_process_has_an_order_of_its_own():
    code = "from exptilt.stages.claims import _own_number; print(_own_number(10**6))"
    env = {"PYTHONPATH": str(ROOT)}
    numbers = {subprocess.check_output([sys.executable, "-c", code], env=env) for _ in range(3)}
    assert len(numbers) > 1
