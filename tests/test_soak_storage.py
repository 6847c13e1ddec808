"""A long run of the whole DAG through a flaky S3, under Prefect: `make soak` prints its figures."""

import time
from pathlib import Path

import pytest
from faults import KINDS, Faults, proxy
from processes import run_flow, s3_server
from test_flows import manifest, toy
from test_storage import digests

SIZES = ["--nsamples", "32", "--shard-size", "32"]  # the demo's 240 prompts in 8 shards
DATA_SET = "toy-demo_lam=1.000_val=bees"


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_whole_dag_through_a_flaky_s3(server, tmp_path, rewards_file, seed):
    arguments = toy(f"{rewards_file}:bees", *SIZES)
    with s3_server(tmp_path / "s3") as credentials:
        env, url = {**server, **credentials}, credentials.pop("AWS_ENDPOINT_URL")
        env.pop("AWS_ENDPOINT_URL")
        seconds = {}
        with proxy(Faults(upstream=int(url.rsplit(":", 1)[1]), seed=seed, rate=0.08)) as faults:
            for name, endpoint in (("clean", url), ("flaky", faults.url)):
                began = time.monotonic()
                place = ["--save-directory", f"s3://bucket/{name}", "--endpoint-url", endpoint]
                done = run_flow(*arguments, *place, env=env, cwd=tmp_path, timeout=900)
                assert done.returncode == 0, done.stderr
                seconds[name] = time.monotonic() - began
    folders = {name: tmp_path / "s3" / "bucket" / name / DATA_SET for name in seconds}
    retries = manifest(folders["flaky"])["summary"]["retries"]
    print(
        f"\nseed {seed}: {faults.requests} requests, {faults.injected.total()} faults "
        f"{dict(faults.injected)}, {retries} retries; "
        f"{seconds['flaky']:.0f} s against {seconds['clean']:.0f} s clean"
    )
    assert set(faults.injected) == set(KINDS)
    assert f"storage     {retries} retries" in done.stdout
    assert digests(Path(folders["flaky"])) == digests(Path(folders["clean"]))
