"""Runs that are killed, evicted or cut off from their server, and what the next run finds."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interruptions import again, hit, hurried, scored, slow_reward, tables, toy
from processes import prefect_server, process, run_flow, told, wait_until
from test_flows import ask

from exptilt.storage import process_identity


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """A run that was left alone: its arguments, and its tables."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = toy(slow_reward(folder, 1.5))
    assert run_flow(*arguments, env=server, cwd=folder).returncode == 0
    return arguments, tables(folder)


def states_of_last(server: dict[str, str], count: int) -> list[str]:
    return [run["state_name"] for run in ask(server, "flow_runs", sort="START_TIME_DESC", limit=count)]


@pytest.mark.soak
def test_a_run_that_is_killed_then_evicted_then_interrupted_ends_as_if_it_had_not(server, tmp_path, whole):
    arguments, expected = whole
    assert hit(arguments, server, tmp_path, signal.SIGKILL, 2)[0] == -signal.SIGKILL
    assert states_of_last(server, 1) == ["Running"]
    for number, shards, code in ((signal.SIGTERM, 4, 143), (signal.SIGINT, 6, 130)):
        ended, seconds, said = hit(arguments, server, tmp_path, number, shards)
        assert (ended, seconds < 5) == (code, True)
        assert told(said)[1:] == ["error: stopped; finished shards are saved, run the same command to go on"]
    done = again(arguments, server, tmp_path)
    assert int(done.stdout.partition("shards of samples ")[2][0]) >= 6
    assert tables(tmp_path) == expected
    assert states_of_last(server, 4) == ["Completed", "Crashed", "Crashed", "Crashed"]


def test_a_step_that_does_not_notice_is_left_after_some_seconds(server, tmp_path):
    arguments = toy(f"{tmp_path}/slow.py:stuck")
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def stuck(prompts, completions):\n"
        "    pathlib.Path('results/pool/rewards/x').mkdir(parents=True, exist_ok=True)\n"
        "    pathlib.Path('results/pool/rewards/x/manifest.json').touch()\n"
        "    time.sleep(60)\n"
    )
    code, seconds, said = hit(arguments, server, tmp_path, signal.SIGTERM, 1)
    assert (code, seconds < 8) == (143, True)
    assert said.count("finished shards are saved") == 1


def test_a_server_that_does_not_answer_or_refuses_us_is_named_before_anything_starts(tmp_path, clean):
    said = refused({**clean, "PREFECT_API_URL": "http://someone:secret@127.0.0.1:9/api"}, tmp_path)
    assert "no Prefect server answers at PREFECT_API_URL=http://127.0.0.1:9/api" in said
    assert "secret" not in said


def refused(env: dict[str, str], folder: Path) -> str:
    done = run_flow("--basemodel", "toy", env=env, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    return done.stderr


@pytest.mark.soak
def test_a_server_lost_in_the_middle_ends_the_run_with_one_line(server, tmp_path, whole):
    (tmp_path / "home").mkdir()
    arguments, expected = whole
    with contextlib.ExitStack() as lost, contextlib.ExitStack() as stack:
        env = lost.enter_context(prefect_server(tmp_path / "home"))
        running = stack.enter_context(process(hurried(arguments), env, tmp_path / "log", cwd=tmp_path))
        wait_until(lambda: scored(tmp_path) >= 2)
        lost.close()
        assert running.wait(timeout=20) == 1
    said = (tmp_path / "log").read_text()
    assert said.count("\n") == 2
    assert "does not answer any more; finished shards are saved" in said
    again(arguments, server, tmp_path)
    assert tables(tmp_path) == expected


def test_a_process_is_dead_only_where_that_is_sure():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        alive = process_identity.me() | {"pid": other.pid, "born": process_identity._born(other.pid)}
        assert not process_identity.is_dead(alive)
        assert process_identity.is_dead(alive | {"born": "1"})  # its number was given out again
        assert not process_identity.is_dead(alive | {"machine": "another", "boot": "another"})
        assert not process_identity.is_dead(alive | {"space": "pid:[1]"})
        assert process_identity.is_dead(alive | {"boot": "before the power cut"})
        other.kill()
        other.stdin.close()
        while process_identity._born(other.pid):  # it ends as a zombie, since nobody has waited for it yet
            pass
        assert process_identity.is_dead(alive)
    assert process_identity.is_dead(alive)
    assert not any(
        process_identity.is_dead(odd) for odd in (None, [], {}, {"pid": "x"}, alive | {"pid": None})
    )
