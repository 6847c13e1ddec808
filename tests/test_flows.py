"""The flows as a user runs them: real processes, a real Prefect server and worker, a real S3 server."""

import itertools
import json
import os
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import httpx
import polars as pl
import pytest
from interruptions import slow_reward, toy
from processes import (
    ROOT,
    flow_command,
    noise,
    process,
    run_flow,
    s3_server,
    wait_until,
)

import exptilt

DEMO = ["--end", "8", "--nsamples", "4", "--lam", "-0.5", "--value", "humor"]
TEMP = "results/temp/demo-demo_lam=-0.500_val=humor_0to8"


def rows(path: Path) -> list[dict]:
    return json.loads(path.read_text())


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def ask(server: dict[str, str], path: str, **query) -> list[dict]:
    found = httpx.post(f"{server['PREFECT_API_URL']}/{path}/filter", json=query, timeout=30)
    found.raise_for_status()
    return found.json()


def latest_run(server: dict[str, str]) -> dict:
    return ask(server, "flow_runs", sort="START_TIME_DESC", limit=1)[0]


def task_states(server: dict[str, str], run: dict) -> dict[str, str]:
    query = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200}
    found = [*ask(server, "task_runs", **query), *ask(server, "task_runs", **query, offset=200)]
    return {t["name"]: t["state_name"] for t in found}


def test_a_first_run_in_an_empty_folder_is_quiet_and_complete(clean, tmp_path, rewards_file):
    """No server, an empty home: no noise at the start, in the run or at shutdown."""
    done = run_flow(*toy(f"{rewards_file}:bees", "--shard-size", "32"), env=clean, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert noise(done) == []
    assert "240 prompts of demo × 32 samples in 8 shards, tilted by 1 × bees" in done.stderr
    assert "bees" in done.stdout
    assert len(rows(tmp_path / "results" / "toy-demo_lam=1.000_val=bees.json")) == 240


@pytest.fixture(scope="module")
def rows_of_the_flow(server, tmp_path_factory):
    """The rows of the demo, by the flow as a command."""
    folder = tmp_path_factory.mktemp("flow")
    done = run_flow(*DEMO, env=server, cwd=folder)
    assert done.returncode == 0, done.stderr
    return rows(folder / f"{TEMP}.json")


def test_gendata_gives_the_rows_of_the_flow(server, tmp_path, rows_of_the_flow):
    command = [sys.executable, str(ROOT / "gendata.py"), "generate_from_MC_aligned_model"]
    arguments = ["--lam_list=-0.5", "--value_list=humor", "--MC_nsamples=4", "--end_index=8"]
    subprocess.run([*command, *arguments], cwd=tmp_path, env=server, check=True)
    assert len(rows_of_the_flow) == 8
    assert rows(tmp_path / f"{TEMP}.json") == rows_of_the_flow


def test_deployments_give_the_rows_of_the_library(server, tmp_path, rewards_file):
    value = f"{rewards_file}:bees"
    common = {"basemodel": "toy", "end": 8, "nsamples": 4, "save_directory": f"{tmp_path}/results"}
    exptilt.mc_aligned(value=value, lam=1.0, **common)
    folder, tilt = tmp_path / "deployed", ["-p", 'lam={"bees": 1.0}', "-p", f'value=["{value}"]']
    deploy(server)
    with worker(server, tmp_path):
        run_deployed(server, "gen/mc-aligned", folder, *tilt, "-p", "nsamples=4", end=8)
        run_deployed(server, "gen/original", folder, end=8)
    name = "results/temp/toy-demo_lam=1.000_val=bees_0to8.json"
    assert rows(folder / name) == rows(tmp_path / name)
    assert len(rows(folder / "results/temp/toy-demo_0to8.json")) == 8


def prefect(env: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "prefect", *words]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def deploy(env: dict[str, str]) -> None:
    """Make the deployments' work pool and all of them."""
    prefect(env, "work-pool", "create", "exptilt", "--type", "process", "--overwrite")
    prefect(env, "--no-prompt", "deploy", "--all")


def worker(env: dict[str, str], folder: Path) -> AbstractContextManager[subprocess.Popen]:
    """A worker of the deployments' pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "exptilt"]
    return process(command, {**env, "PREFECT_WORKER_QUERY_SECONDS": "1"}, folder / "worker.log")


def run_deployed(env: dict[str, str], name: str, folder: Path, *parameters: str, end: int) -> None:
    """Run a deployment of the toy engine to its end."""
    where = ["-p", "basemodel=toy", "-p", f"end={end}", "-p", f"save_directory={folder}/results"]
    watch = ["--watch", "--watch-interval", "1"]
    prefect(env, "deployment", "run", name, *where, *parameters, *watch)


def test_runs_tasks_and_form_say_what_they_are(server, tmp_path, rewards_file):
    value = f"{rewards_file}:bees"
    assert run_flow(*toy(value, "--end", "40"), env=server, cwd=tmp_path).returncode == 0
    run = latest_run(server)
    assert (run["state_name"], run["tags"]) == ("Completed", ["exptilt"])
    assert run["name"].startswith("toy demo λ=1")
    states = task_states(server, run)
    expected = {f"{step} {i:03d}/002" for step in ("generate", "score bees", "tilt") for i in (1, 2)}
    assert set(states) == expected | {"load prompts demo", "merge and save"}
    assert set(states.values()) == {"Completed"}
    keys = {a["key"]: a for a in ask(server, "artifacts", flow_runs={"id": {"any_": [run["id"]]}})}
    assert keys["exptilt-progress"]["data"] == 100
    assert "| bees | 1 |" in keys["exptilt-summary"]["data"]
    assert "sound" in keys["exptilt-summary"]["description"]
    (level,) = json.loads(keys["exptilt-levels"]["data"])
    assert (level["value"], level["λ"]) == ("bees", "1")
    page = tmp_path / "results/temp/toy-demo_lam=1.000_val=bees_0to40/index.html"
    assert page.exists()
    assert page.as_uri() in keys["exptilt-page"]["data"]

    assert run_flow(*toy(value, "--end", "40", lam="2"), env=server, cwd=tmp_path).returncode == 0
    again = task_states(server, latest_run(server))
    cached = {name for name, state in again.items() if state == "Cached"}
    assert cached == {name for name in expected if not name.startswith("tilt")}


def test_scoring_a_shard_overlaps_with_generating_the_next_and_only_one_generates(server, tmp_path):
    arguments = toy(slow_reward(tmp_path, 0.5), "--end", "160", "--nsamples", "75", "--shard-size", "32")
    assert run_flow(*arguments, env=server, cwd=tmp_path).returncode == 0
    run = latest_run(server)
    found = ask(server, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    times = {t["name"]: (t["start_time"], t["end_time"]) for t in found}
    turns, scored = (
        sorted(times[f"{step} {i:03d}/005"] for i in range(1, 6)) for step in ("generate", "score bees")
    )
    assert scored[0][0] < turns[-1][1]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(turns))


def test_what_can_pass_is_tried_again(server, tmp_path):
    """A store that fails once costs a retry, not the run."""
    flaky = (
        "import pathlib\n"
        "def bees(prompts, completions):\n"
        f"    mark = pathlib.Path({str(tmp_path)!r}, f'seen {{prompts[0]}}')\n"
        "    with mark.open('a+') as f:\n"
        "        calls = f.tell()\n"
        "        f.write('x')\n"
        "    if calls == 1:\n"  # the first is the trial's
        "        raise ConnectionResetError('the line went dead')\n"
        "    return [1.0 for _ in completions]\n"
    )
    (tmp_path / "flaky.py").write_text(flaky)
    arguments = toy(f"{tmp_path}/flaky.py:bees", "--end", "64", "--shard-size", "32")
    done = run_flow(*arguments, env=server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    query = {"flow_runs": {"id": {"any_": [latest_run(server)["id"]]}}}
    counts = {t["name"]: t["run_count"] for t in ask(server, "task_runs", **query)}
    assert (counts["score bees 001/002"], counts["generate 001/002"]) == (2, 1)


def test_a_file_of_records_gets_its_values(server, tmp_path, rewards_file):
    records = [{"prompt": "x", "generated": f"x{text}", "extra": i} for i, text in enumerate(("b", "", "ab"))]
    records.append({"prompt": "yy", "generated": "yy b", "extra": 3})
    file = tmp_path / "x.json"
    file.write_text(json.dumps(records))
    values = f"{rewards_file}:bees,long={rewards_file}:length,diversity"
    arguments = ["--file", str(file), "--value", values]
    score = ROOT / "flows" / "score.py"
    done = run_flow(*arguments, env=server, cwd=tmp_path, file=score)
    assert done.returncode == 0, done.stderr
    found = rows(file)
    assert [r["bees"] for r in found] == [1.0, 0.0, 1.0, 1.0]
    assert [r["long"] for r in found] == [1.0, 0.0, 2.0, 2.0]
    assert [{k: r[k] for k in ("prompt", "generated", "extra")} for r in found] == records
    again = run_flow(*arguments, env=server, cwd=tmp_path, file=score)
    assert again.returncode == 2
    assert "has 'bees' already: give an --output" in again.stderr
    table = tmp_path / "x.parquet"
    pl.DataFrame(records).write_parquet(table)
    assert (
        run_flow("--file", str(table), *arguments[2:], env=server, cwd=tmp_path, file=score).returncode == 0
    )
    assert pl.read_parquet(table)["long"].to_list() == [1.0, 0.0, 2.0, 2.0]
    states = task_states(server, latest_run(server))
    assert {s for n, s in states.items() if n.startswith("score")} == {"Cached"}


def test_a_broken_reward_fails_its_shards_and_a_mended_run_does_only_these(server, tmp_path):
    reward = tmp_path / "own.py"
    broken = "[float('nan') if 'Park' in p else 1.0 for p in prompts]"
    reward.write_text(f"def own(prompts, completions):\n    return {broken}\n")
    arguments = toy(f"{reward}:own", "--shard-size", "32")
    done = run_flow(*arguments, env=server, cwd=tmp_path)
    assert done.returncode == 1
    assert "of 8 shards failed; the others are saved" in done.stderr
    assert "value 'own'" in done.stderr
    assert "gave nan for prompt" in done.stderr
    assert "Traceback" not in done.stderr
    run = latest_run(server)
    assert run["state_name"] == "Failed"
    states = task_states(server, run)
    failed = {name for name, state in states.items() if state == "Failed"}
    assert failed
    assert all(name.startswith("score own") for name in failed)
    of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    (artifact,) = (a for a in ask(server, "artifacts", **of_run) if a["key"] == "exptilt-failed")
    (cause,) = json.loads(artifact["data"])
    assert {name.removeprefix("score own ").partition("/")[0] for name in failed} == set(
        cause["shards"].split(", ")
    )
    assert "gave nan for prompt" in cause["why"]
    retried = ask(server, "task_runs", task_runs={"name": {"any_": sorted(failed)}})
    assert {t["run_count"] for t in retried} == {1}
    assert not (tmp_path / "results" / "toy-demo_lam=1.000_val=own.json").exists()
    assert sum(s == "Completed" for n, s in states.items() if n.startswith("tilt")) == 8 - len(failed)

    reward.write_text("def own(prompts, completions):\n    return [1.0 for p in prompts]\n")
    assert run_flow(*arguments, env=server, cwd=tmp_path).returncode == 0
    mended = task_states(server, latest_run(server))
    assert {s for n, s in mended.items() if n.startswith("generate")} == {"Cached"}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads a process's children from /proc")
def test_a_killed_run_takes_its_own_server_with_it(clean, tmp_path):
    arguments = flow_command(*toy(slow_reward(tmp_path, 1.0)))
    with process(arguments, clean, tmp_path / "log", cwd=tmp_path) as running:
        wait_until(lambda: any(tmp_path.glob("results/pool/rewards/*/manifest.json")))
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 1
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{children[0]}/cmdline").exists(), 20)


@pytest.mark.soak
def test_two_runs_at_once_compute_a_shard_once(server, tmp_path):
    value = slow_reward(tmp_path, 0.2)
    arguments, other = toy(value), toy(value, lam="2")
    with process(flow_command(*arguments), server, tmp_path / "one.log", cwd=tmp_path) as one:
        assert run_flow(*other, env=server, cwd=tmp_path).returncode == 0
        assert one.wait(timeout=120) == 0
    tokens, reused = [], []
    for lam in ("1.000", "2.000"):
        summary = manifest(tmp_path / f"results/toy-demo_lam={lam}_val=bees")["summary"]
        tokens.append(summary["tokens"])
        reused.append(summary["reused"])
    assert sum(r["samples"] for r in reused) == 8
    assert sum(r["bees"] for r in reused) == 8
    (tmp_path / "alone").mkdir()
    assert run_flow(*arguments, env=server, cwd=tmp_path / "alone").returncode == 0
    alone = manifest(tmp_path / "alone/results/toy-demo_lam=1.000_val=bees")["summary"]
    assert sum(tokens) == alone["tokens"]


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIARECOGNISABLEKEY0",
    "AWS_SECRET_ACCESS_KEY": "recognisable/secret+of+forty+characters0",
    "AWS_SESSION_TOKEN": "recognisable-session-token-0123456789",
}


def test_s3_gives_the_same_rows_as_a_local_folder_and_no_secret_is_written_anywhere(
    server, tmp_path, rewards_file
):
    arguments = toy(f"{rewards_file}:bees", "--end", "40")
    key, secret = SECRETS["AWS_ACCESS_KEY_ID"], SECRETS["AWS_SECRET_ACCESS_KEY"]
    with s3_server(tmp_path / "s3", key, secret) as credentials:
        place = [
            "--save-directory",
            "s3://bucket/lab/run 1",
            "--endpoint-url",
            credentials["AWS_ENDPOINT_URL"],
        ]
        env = {**server, **SECRETS, "AWS_DEFAULT_REGION": "us-east-1", "PREFECT_LOGGING_LEVEL": "DEBUG"}
        away = run_flow(*arguments, *place, env=env, cwd=tmp_path)
        assert away.returncode == 0, away.stderr
        again = run_flow(*arguments, *place, env=env, cwd=tmp_path)
    assert run_flow(*arguments, env=server, cwd=tmp_path).returncode == 0
    name = "temp/toy-demo_lam=1.000_val=bees_0to40.json"
    stored = tmp_path / "s3" / "bucket" / "lab" / "run 1" / name
    assert rows(stored) == rows(tmp_path / "results" / name)
    assert "nothing: every sample was in the pool" in again.stdout
    written = {"output": (away.stdout + away.stderr + again.stdout + again.stderr).encode()}
    folders = (tmp_path, Path(server["PREFECT_HOME"]))
    written |= {str(f): f.read_bytes() for folder in folders for f in folder.rglob("*") if f.is_file()}
    assert any(name.endswith("prefect.db") for name in written)
    found = [
        (name, what) for name, text in written.items() for what in SECRETS if leaked(SECRETS[what], text)
    ]
    assert found == []
    assert any(b"endpoint_url" in text for name, text in written.items() if "prefect.db" in name)


def leaked(secret: str, text: bytes) -> bool:
    """Whether `text` holds the secret as it is, or as JSON, URLs or base64 spell it."""
    spelled = (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], b64encode(secret.encode()).decode())
    return any(form.encode() in text for form in spelled)
