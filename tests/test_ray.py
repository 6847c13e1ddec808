"""Shards on a Ray cluster: two real nodes on loopback, real flows, workers and nodes that are killed."""

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from interruptions import scored, tables, toy
from processes import flow_command, noise, process, run_flow, wait_until
from ray_cluster import cluster
from test_command import FLOWS, arguments_of, write_files, written
from test_flows import deploy, latest_run, run_deployed, task_states, worker

import exptilt
from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import ConfigError
from exptilt.planning.plan import prepare
from exptilt.run import Run
from tasks.runtime import cluster_checks
from tasks.runtime.cluster import Cluster, planned, workers_of

OTHER, THIRD, RUN = "127.0.0.3", "127.0.0.4", "logged-demo_lam=1.000_val=bees"
SLOW = 240  # seconds, where much else runs on the machine
ENGINE = """
import dataclasses, os, pathlib
from exptilt.engines import toy
LOG = pathlib.Path(__file__).with_name("loads.log")

def load(p0, device):
    with LOG.open("a") as log:
        log.write(f"{os.getpid()}\\n")
    return toy.ENGINE.load(p0, device)

def base_model(name):
    known = toy.ENGINE.base_model("toy")
    return dataclasses.replace(known, name=name, engine="logged") if name == "logged" else None

ENGINE = dataclasses.replace(toy.ENGINE, name="logged", base_model=base_model, load=load)
"""
VALUE = """
import os, pathlib, time
HERE = pathlib.Path(__file__)
with HERE.with_name("values.log").open("a") as log:
    log.write(f"{os.getpid()}\\n")

def bees(prompts, completions):
    time.sleep(SECONDS)
    return [float("b" in c) for c in completions]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """An engine and a value that log where they are loaded."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "logged_engine.py").write_text(ENGINE)
    info = folder / "logged_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: logged-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[exptilt.engines]\nlogged = logged_engine:ENGINE\n")
    (folder / "value.py").write_text(VALUE.replace("SECONDS", "0.7"))
    return folder


def logged(lab: Path, name: str) -> list[int]:
    return [int(line) for line in (lab / name).read_text().split()]


@pytest.fixture(scope="module")
def nodes(server, lab):
    with cluster({**server, "PYTHONPATH": str(lab)}, OTHER) as found:
        yield found


@pytest.fixture(scope="module")
def arguments(lab) -> list[str]:
    return ["--basemodel", "logged", "--value", f"{lab}/value.py:bees", "--lam", "1"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, rewards_file) -> dict[str, str]:
    """The tables of the run on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    exptilt.mc_aligned(
        basemodel="toy", value=f"{rewards_file}:bees", lam=1, save_directory=folder / "results"
    )
    return tables(folder)


def on_ray(arguments: list[str], nodes) -> list[str]:
    return [*arguments, "--runner", "ray", "--ray-address", nodes.address]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_and_a_node_that_are_killed_cost_no_row_and_workers_load_once(
    nodes, arguments, alone, lab, server, tmp_path
):
    log = tmp_path / "log"
    with process(flow_command(*on_ray(arguments, nodes)), nodes.env, log, cwd=tmp_path) as running:
        wait_until(lambda: scored(tmp_path) >= 1, SLOW)
        os.kill(logged(lab, "values.log")[-1], signal.SIGKILL)
        wait_until(lambda: scored(tmp_path) >= 3, SLOW)
        nodes.raylet(OTHER).kill()
        assert scored(tmp_path) < 8
        assert running.wait(timeout=SLOW) == 0, log.read_text()
    assert tables(tmp_path, RUN) == alone
    assert log.read_text().startswith("logged on cpu (float32): 240 prompts of demo × 32 samples in 8 shards")
    shards = [f"shard {i:03d}/008" for i in range(1, 9)]
    states = task_states(server, latest_run(server))
    assert set(states) == {"load prompts demo", *shards, "merge and save"}
    assert set(states.values()) <= {
        "Completed",
        "Cached",
    }  # one that was killed once all was written is Cached
    values, engines = (Counter(logged(lab, name)) for name in ("values.log", "loads.log"))
    assert set(values.values()) == {1}
    assert max(engines.values()) <= 2  # for the trial, and for the run
    assert len(values) <= 5  # of two workers, the one that was killed, and those after it


@pytest.mark.soak
def test_a_run_on_a_cluster_is_quiet_and_what_the_pool_has_is_cached(
    nodes, arguments, alone, server, tmp_path
):
    done = run_flow(*on_ray(arguments, nodes), env=nodes.env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert noise(done) == []
    assert tables(tmp_path, RUN) == alone
    again = run_flow(*on_ray(arguments, nodes), env=nodes.env, cwd=tmp_path)
    assert "nothing: every sample was in the pool" in again.stdout
    states = task_states(server, latest_run(server))
    assert {s for name, s in states.items() if name.startswith("shard")} == {"Cached"}


@pytest.mark.soak
def test_a_run_goes_on_without_a_node_that_died_just_before(nodes, arguments, alone, tmp_path):
    nodes.add(THIRD, f"--address={nodes.address}")
    nodes.wait(THIRD)
    nodes.raylet(THIRD).kill()
    done = run_flow(*on_ray(arguments, nodes), env=nodes.env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path, RUN) == alone


@pytest.mark.soak
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_on_a_cluster_and_the_next_one_goes_on(
    nodes, arguments, alone, server, tmp_path, number, code
):
    log = tmp_path / "log"
    with process(flow_command(*on_ray(arguments, nodes)), nodes.env, log, cwd=tmp_path) as running:
        wait_until(lambda: scored(tmp_path) >= 2, SLOW)
        os.kill(running.pid, number)
        assert running.wait(timeout=15) == code
    assert "finished shards are saved, run the same command to go on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert latest_run(server)["state_type"] not in ("RUNNING", "CANCELLING")
    assert run_flow(*on_ray(arguments, nodes), env=nodes.env, cwd=tmp_path).returncode == 0
    assert tables(tmp_path, RUN) == alone


@pytest.mark.soak
def test_a_thousand_shards_go_through_a_cluster(nodes, rewards_file, server, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"prompt {i}\n" for i in range(32_000)))
    toy = ["--basemodel", "toy", "--value", f"{rewards_file}:bees", "--lam", "0.1", "--nsamples", "2"]
    more = ["--data", str(prompts), "--shard-size", "32"]
    began = time.monotonic()
    done = run_flow(*on_ray([*toy, *more], nodes), env=nodes.env, cwd=tmp_path, timeout=1500)
    assert done.returncode == 0, done.stderr
    print(f"\n1,000 shards on two workers: {time.monotonic() - began:.0f} s")
    assert noise(done) == []
    query = {"flow_runs": {"id": {"any_": [latest_run(server)["id"]]}}}
    ended = {**query, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    count = httpx.post(f"{server['PREFECT_API_URL']}/task_runs/count", json=ended, timeout=30).json()
    assert count == 1_002


@pytest.mark.soak
@pytest.mark.parametrize("name", ["original", "score", "score pairs", "sweep", "palette"])
def test_every_flow_writes_on_a_cluster_what_it_writes_here(nodes, rewards_file, tmp_path, name):
    kind, arguments = name.partition(" ")[0], arguments_of(rewards_file)[name]
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        write_files(folder)
    for folder, line in ((here, arguments), (there, on_ray(arguments, nodes))):
        done = run_flow(*line, env=nodes.env, cwd=folder, file=FLOWS[kind])
        assert done.returncode == 0, done.stderr
        assert noise(done) == []
    assert written(there) == written(here)


@pytest.mark.soak
def test_a_deployment_runs_on_a_cluster(nodes, rewards_file, tmp_path):
    arguments = toy(f"{rewards_file}:bees", "--end", "70", "--nsamples", "4", "--shard-size", "32")
    assert run_flow(*arguments, env=nodes.env, cwd=tmp_path).returncode == 0
    deploy(nodes.env)
    on_cluster = ["-p", "runner=ray", "-p", f"ray_address={nodes.address}", "-p", "shard_size=32"]
    asked = ["-p", 'lam={"bees": 1.0}', "-p", f'value=["{rewards_file}:bees"]', "-p", "nsamples=4"]
    with worker(nodes.env, tmp_path):
        run_deployed(nodes.env, "gen/mc-aligned", tmp_path / "there", *asked, *on_cluster, end=70)
    name = "results/temp/toy-demo_lam=1.000_val=bees_0to70.json"
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("resources", "device", "found"),
    [
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 4}], "auto", Cluster(workers=8, gpus=1, cpus=1)),
        ([{"CPU": 16}, {"CPU": 8, "GPU": 1}], "cuda", Cluster(workers=1, gpus=1, cpus=1)),
        ([{"CPU": 16}, {"CPU": 8, "GPU": 1}], "cpu", Cluster(workers=3, gpus=0, cpus=8)),
        ([{"CPU": 4}, {"CPU": 4}, {}], "auto", Cluster(workers=2, gpus=0, cpus=4)),
    ],
)
def test_a_worker_is_a_gpu_or_what_the_smallest_node_has(resources, device, found):
    assert workers_of(resources, device) == found


@pytest.mark.parametrize(
    ("resources", "device", "why"),
    [
        ([{"CPU": 4}], "cuda", "no node of the Ray cluster has a GPU"),
        ([{}], "auto", "no node of the Ray cluster has a CPU"),
        ([{"CPU": 4, "GPU": 2}], "cuda:0,cuda:1", "Ray gives each worker a device"),
    ],
)
def test_a_kind_of_device_that_no_node_has_is_refused(resources, device, why):
    with pytest.raises(ConfigError, match=why):
        workers_of(resources, device)


@pytest.mark.parametrize(
    "api", ["http://127.0.0.1:4200/api", "http://localhost:4200/api", "http://[::1]:1/api"]
)
def test_a_prefect_server_on_loopback_is_refused_where_there_are_two_hosts(api):
    cluster_checks.check_api(api, {"one"})
    cluster_checks.check_api("http://head:4200/api", {"one", "two"})
    with pytest.raises(ConfigError, match=r"2 hosts, which cannot reach .* --host 0.0.0.0"):
        cluster_checks.check_api(api, {"one", "two"})


def test_a_node_that_differs_or_does_not_see_the_root_is_refused_by_name(tmp_path):
    same = cluster_checks.look(str(tmp_path / "none"), "")
    with pytest.raises(ConfigError, match=r"node n1 does not see --save-directory runs .* s3://"):
        cluster_checks.check_answer("n1", same, "runs")
    (tmp_path / "mark").touch()
    seen = cluster_checks.look(str(tmp_path / "mark"), "")
    cluster_checks.check_answer("n1", seen, "runs")
    for changed, why in (
        ({**seen, "exptilt": "0.0.9"}, "n1 has exptilt 0.0.9, this machine"),
        ({**seen, "Python": "3.8"}, "n1 has Python 3.8, this machine"),
        (ModuleNotFoundError("No module named 'tasks'"), "n1 lacks exptilt's checkout"),
        (TimeoutError(), "n1 does not answer: TimeoutError"),
    ):
        with pytest.raises(ConfigError, match=why):
            cluster_checks.check_answer("n1", changed, "runs")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"ray_address": "head:6379"}, "--ray-address names a cluster for --runner ray"),
        ({"runner": "ray", "ray_address": "ray://head:10001"}, "write HOST:PORT or auto"),
        ({"runner": "ray", "engine": "vllm"}, "--engine vllm starts servers on this machine"),
        ({"runner": "dask"}, "--runner"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(settings, why):
    with pytest.raises(ConfigError, match=why):
        build(MCAligned, settings)


def asked(address: str, **settings) -> MCAligned:
    return build(MCAligned, {"basemodel": "toy", "runner": "ray", "ray_address": address, **settings})


def test_an_address_where_no_ray_answers_and_a_missing_extra_are_refused_at_once(monkeypatch):
    with (
        Run().entered(),
        pytest.raises(ConfigError, match=r"no Ray cluster answers at 127.0.0.1:9 .*ray start"),
    ):
        planned(prepare, asked("127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with Run().entered(), pytest.raises(ConfigError, match=r"pip install 'exptilt\[ray\]'"):
        planned(prepare, asked(""))


def test_without_prefect_ray_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="--runner ray is for the Prefect flows"):
        exptilt.mc_aligned(basemodel="toy", runner="ray", save_directory=tmp_path)
