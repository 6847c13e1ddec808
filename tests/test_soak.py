"""Runs struck at random moments, run again, compared with one left alone. make soak."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from interruptions import again, hurried, scored, slow_reward, tables, toy
from processes import ROOT, prefect_server, process, run_flow, wait_until
from test_flows import ask

pytestmark = pytest.mark.soak
MOMENTS = int(os.environ.get("EXPTILT_SOAK_MOMENTS", "20"))
SEED = 20_261_124


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """A run that was left alone: its arguments, its tables, its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = toy(slow_reward(folder, 0.1))
    began = time.monotonic()
    assert run_flow(*arguments, env=server, cwd=folder).returncode == 0
    return arguments, tables(folder), time.monotonic() - began


def moments(name: str, seconds: float, count: int = MOMENTS) -> list[float]:
    dice = random.Random(f"{SEED} {name}")
    return [dice.uniform(0.0, seconds) for _ in range(count)]


def running(server: dict[str, str]) -> list[str]:
    return [run["name"] for run in ask(server, "flow_runs") if run["state_type"] in ("RUNNING", "CANCELLING")]


def said(name: str, costs: list[float], kept: list[int]) -> None:
    costs.sort()
    print(
        f"\n{name}: {len(costs)} moments; {sum(kept)} finished shards reused, none written anew; recovery "
        f"cost {costs[len(costs) // 2]:.0%} of a run (median), {costs[-1]:.0%} (most)"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_struck_at_any_moment(server, tmp_path, whole, number):
    arguments, expected, alone = whole
    costs, kept = [], []
    for turn, moment in enumerate(moments(number.name, alone)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        began = time.monotonic()
        with process(hurried(arguments), server, folder / "log", cwd=folder) as run:
            time.sleep(moment)
            os.kill(run.pid, number)
            struck = time.monotonic()
            code = run.wait(timeout=30)
            assert code in (-number, 128 + number, 0), (moment, code, (folder / "log").read_text())
            assert time.monotonic() - struck < 8
        kept.append(scored(folder))
        again(arguments, server, folder)
        costs.append((time.monotonic() - began) / alone - 1)
        assert tables(folder) == expected
        assert running(server) == [], moment
    said(f"kill -{number.name} of the flow", costs, kept)


def test_a_server_killed_at_any_moment(tmp_path, whole):
    arguments, expected, alone = whole
    costs, kept = [], []
    for turn, moment in enumerate(moments("server", alone)):
        folder, home = tmp_path / str(turn), tmp_path / f"home{turn}"
        folder.mkdir()
        home.mkdir()
        with prefect_server(home) as env:
            run = subprocess.Popen(
                hurried(arguments),
                env=env,
                cwd=folder,
                stdout=(folder / "log").open("wb"),
                stderr=subprocess.STDOUT,
            )
            began = time.monotonic()
            time.sleep(moment)
        code, spent = run.wait(timeout=60), time.monotonic() - began
        words = (folder / "log").read_text()
        assert code in (0, 1, 2), (moment, words)
        assert "Traceback" not in words, (moment, words)
        kept.append(scored(folder))
        with prefect_server(home) as env:
            began = time.monotonic()
            again(arguments, env, folder)
            costs.append((spent + time.monotonic() - began) / alone - 1)
            assert running(env) == [], moment
        assert tables(folder) == expected
    said("kill -9 of the server", costs, kept)


@pytest.mark.parametrize(
    ("number", "count"), [(signal.SIGKILL, MOMENTS), (signal.SIGTERM, max(1, MOMENTS // 4))]
)
def test_a_worker_struck_at_any_moment(server, tmp_path, whole, number, count):
    """Killed, its flow goes on without it; a run of the same settings beside it computes nothing twice."""
    arguments, expected, alone = whole
    prefect = [sys.executable, "-m", "prefect"]

    def say(*words: str) -> None:
        quiet = {"capture_output": True, "stdin": subprocess.DEVNULL}
        subprocess.run([*prefect, *words], cwd=ROOT, env=server, check=True, **quiet)

    say("work-pool", "create", "exptilt", "--type", "process", "--overwrite")
    say("--no-prompt", "deploy", "--all")
    costs, kept = [], []
    for turn, moment in enumerate(moments(f"worker {number.name}", alone, count)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        settings = dict(zip((a.strip("-") for a in arguments[::2]), arguments[1::2], strict=True))
        settings["save_directory"] = str(folder / "results")
        given = [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]
        say("deployment", "run", "gen/mc-aligned", *given)
        with (folder / "log").open("wb") as log:
            command = [*prefect, "worker", "start", "--pool", "exptilt"]
            worker = subprocess.Popen(command, cwd=ROOT, env=server, stdout=log, stderr=subprocess.STDOUT)
        wait_until(lambda: bool(running(server)))
        began = time.monotonic()
        time.sleep(moment / 2)
        worker.send_signal(number)
        worker.wait(timeout=60)
        kept.append(scored(folder))
        again(arguments, server, folder)
        costs.append((time.monotonic() - began) / alone - 1)
        wait_until(lambda: running(server) == [])
        assert tables(folder) == expected
    said(f"kill -{number.name} of the worker", costs, kept)
