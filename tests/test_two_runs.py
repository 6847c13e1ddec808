"""Two runs at once in one process: none of what one owns (S3, devices, retries, its stop) is the other's."""

import contextlib
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import s3fs
import torch
from checkpoints import causal
from faults import Faults, proxy
from processes import s3_server

import exptilt
from exptilt import local_run, stages
from exptilt.config.settings import Original
from exptilt.config.validation import build
from exptilt.engines import registry
from exptilt.errors import ShardsFailed, Stopped
from exptilt.models import device_queue
from exptilt.models.devices import Devices
from exptilt.planning.plan import prepare
from exptilt.run import Run, carried, current
from exptilt.storage import lease, s3

PROMPTS = ["abc", "fed cab", "a", "bad face"]
TOGETHER = 60.0


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two S3 servers, by name: the folder of the bucket, and the variables that reach it."""
    with contextlib.ExitStack() as open_servers:
        folders = {name: tmp_path_factory.mktemp(name) / "store" for name in ("here", "there")}
        yield {
            name: (folder / "bucket", open_servers.enter_context(s3_server(folder)))
            for name, folder in folders.items()
        }


@pytest.fixture
def endpoints(stores, monkeypatch):
    """The addresses of the two, whose keys are in the environment, which has no address itself."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, stores["here"][1][name])
    for name in s3.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    yield {name: env["AWS_ENDPOINT_URL"] for name, (_, env) in stores.items()}
    s3fs.S3FileSystem.clear_instance_cache()


def at_once(*works):
    """What works give that are done in a thread each."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result() for done in [pool.submit(work) for work in works]]


def meeting(tmp_path: Path, parties: int) -> str:
    """A reward that waits, once per thread, until `parties` runs are in it."""
    path = tmp_path / "meeting.py"
    path.write_text(
        "import threading\n"
        f"barrier, met = threading.Barrier({parties}, timeout={TOGETHER}), threading.local()\n"
        "def length(prompts, completions):\n"
        "    if not hasattr(met, 'done'):\n"
        "        met.done = barrier.wait() is not None\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    return f"{path}:length"


def test_runs_with_an_s3_each_write_and_read_their_own(endpoints, stores, tmp_path):
    """The same bucket and prefix on both servers, other prompts; a third run is local."""
    before = dict(os.environ)
    value = meeting(tmp_path, 3)

    def drawn(place: str, endpoint: str, prompts: list[str]):
        settings = {"save_directory": place, "endpoint_url": endpoint, "value": value, "lam": 0.5}
        return exptilt.mc_aligned(basemodel="toy", data=prompts, nsamples=4, **settings)

    here, there, local = at_once(
        lambda: drawn("s3://bucket/run", endpoints["here"], ["a", "b"]),
        lambda: drawn("s3://bucket/run", endpoints["there"], ["c", "d", "e"]),
        lambda: drawn(str(tmp_path / "run"), "", ["f"]),
    )
    assert dict(os.environ) == before
    assert [r.records["prompt"].to_list() for r in (here, there, local)] == [
        ["a", "b"],
        ["c", "d", "e"],
        ["f"],
    ]
    for name, result in (("here", here), ("there", there)):
        samples = (stores[name][0] / "run/pool/samples").rglob("samples-*.parquet")
        assert len(list(samples)) == result.summary.shards
        assert result.samples.height == 4 * result.summary.prompts
    scored = exptilt.score(file=there.records, value="diversity", save_directory=tmp_path / "scored")
    assert scored.records.height == 3


def test_scores_and_sweeps_keep_to_their_s3_as_well(endpoints, tmp_path):
    texts = [{"prompt": f"p{k % 3}", "generated": f"p{k % 3} {k}", "calm": float(k)} for k in range(12)]

    def looked(name: str, rows: list[dict]):
        at = {"save_directory": "s3://bucket/looked", "endpoint_url": endpoints[name]}
        scored = exptilt.score(file=rows, value="diversity", **at)
        swept = exptilt.sweep(file=scored.paths["records"], value="calm", lam="1", **at)
        found = exptilt.palette(file=rows, target="calm=keep", **at)
        return scored.records["calm"].to_list(), swept.records["number"].to_list(), found.records.height

    twice = [{**row, "calm": 2 * row["calm"]} for row in texts]
    expected = [([row["calm"] for row in rows], [1], 1) for rows in (texts, twice)]
    assert at_once(lambda: looked("here", texts), lambda: looked("there", twice)) == expected


def test_the_environments_s3_is_that_of_a_run_that_names_none(endpoints, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoints["there"])
    assert s3.endpoint() == endpoints["there"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoints["here"])
    assert s3.endpoint() == endpoints["here"]
    with Run(endpoints["there"]).entered():
        assert s3.endpoint() == endpoints["there"]
    assert s3.endpoint() == endpoints["here"]


def test_each_run_counts_its_own_retries(endpoints, stores, toy, monkeypatch):
    monkeypatch.setattr(s3, "PAUSE", 0.001)
    port = int(endpoints["here"].rsplit(":", 1)[1])
    with proxy(Faults(upstream=port, rate=0.3, kinds=("503",))) as faults:
        plans = [
            prepare(toy(end=2, shard_size=2, save_directory="s3://bucket/count", endpoint_url=url))
            for url in (faults.url, endpoints["there"])
        ]
        flaky, well = at_once(*[lambda plan=plan: local_run.run(plan) for plan in plans])
    assert (
        0 < plans[0].run.retries <= faults.injected["503"]
    )  # some last tries of a heartbeat are not repeated
    assert plans[1].run.retries == well.retries == 0
    assert flaky.retries > 0


def letters(tmp_path: Path, folder: str, **changes):
    """A plan of 24 prompts, by a small model."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"{'abcdef'[i % 6]}{'fedcba'[i // 6]}\n" for i in range(24)))
    given = {"basemodel": folder, "data": str(prompts), "nsamples": 4, "max_new_tokens": 8}
    return prepare(build(Original, {**given, "save_directory": str(tmp_path / "results"), **changes}))


def test_a_device_that_fails_one_run_serves_the_other(tmp_path, monkeypatch):
    folder, other = causal(tmp_path / "letters", "gpt2"), causal(tmp_path / "other", "gpt2")
    broken = letters(tmp_path, folder, device="cpu:0", save_directory=str(tmp_path / "one"))
    sound = letters(tmp_path, other, device="cpu:0", save_directory=str(tmp_path / "two"))
    model = registry.load(broken.recipe.p0, "cpu:0").model

    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(model, "forward", lost)

    def failing() -> str:
        with pytest.raises(ShardsFailed, match="no device is left: cpu:0: CUDA error"):
            local_run.run(broken)
        return "failed"

    failed, summary = at_once(failing, lambda: local_run.run(sound))
    assert (failed, summary.samples) == ("failed", 96)
    assert (broken.recipe.devices.failed.keys(), sound.recipe.devices.failed) == ({"cpu:0"}, {})


def test_stopping_a_run_ends_it_and_leaves_the_other_going(tmp_path, monkeypatch):
    """Both draw on one device; one is stopped while the other is in the middle."""
    folders = [causal(tmp_path / name, "gpt2") for name in ("long", "short")]
    places = [str(tmp_path / name) for name in ("one", "two")]
    long = letters(tmp_path, folders[0], nsamples=512, save_directory=places[0])
    short = letters(tmp_path, folders[1], save_directory=places[1])
    drawing = [threading.Event(), threading.Event()]
    for plan, begun in zip((long, short), drawing, strict=True):
        model = registry.load(plan.recipe.p0, "cpu").model

        def slow(*args, begun=begun, forward=model.forward, **kwargs):
            begun.set()
            time.sleep(0.02)
            return forward(*args, **kwargs)

        monkeypatch.setattr(model, "forward", slow)

    def stopped() -> str:
        with pytest.raises(Stopped, match="stopped by the user"):
            local_run.run(long)
        return "stopped"

    def stopping() -> bool:
        both = all(begun.wait(TOGETHER) for begun in drawing)
        long.run.stop()
        return both

    assert at_once(stopped, stopping, lambda: local_run.run(short).samples) == ["stopped", True, 96]
    again = letters(tmp_path, folders[0], nsamples=2, save_directory=places[0])
    assert local_run.run(again).samples == 48


def test_a_run_that_is_stopped_does_not_wait_for_a_lease_a_device_or_its_turn(tmp_path):
    run, path = Run(), f"{tmp_path}/a.lease"
    devices, release = Devices(["cpu:0"]), threading.Event()
    devices.take("draw", 1)

    def waiting(work) -> str:
        with run.entered(), pytest.raises(Stopped):
            work()
        return "stopped"

    def leased() -> None:
        with lease.held(path):
            raise AssertionError("another holds it")

    def stopping() -> str:
        time.sleep(0.3)
        run.stop()
        return "asked"

    with lease.held(path), ThreadPoolExecutor(1) as pool:
        busy = pool.submit(device_queue.in_turn, "cpu:stop", release.wait)
        turn = lambda: device_queue.in_turn("cpu:stop", lambda: None)  # noqa: E731
        began = time.monotonic()
        works = [leased, lambda: devices.take("draw", 1), turn, lambda: current().pause(TOGETHER)]
        said = at_once(*[lambda work=work: waiting(work) for work in works], stopping)
        took = time.monotonic() - began
        release.set()
        assert busy.result()
    assert said == ["stopped"] * 4 + ["asked"]
    assert took < 5


def test_a_stopped_run_begins_no_step_and_another_try_is_a_new_run(toy):
    config = toy(end=4)
    plan = prepare(config)
    plan.run.stop()
    with pytest.raises(Stopped):
        stages.generate(plan.recipe, plan.shards[0])
    assert local_run.run(prepare(config)).prompts == 4


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_stops_the_threads_of_its_run_alone(end):
    run, other = Run(), Run()
    with run.entered():
        threaded = carried(lambda: current().check())
    with pytest.raises(end), run.entered():
        raise end
    with pytest.raises(Stopped):
        threaded()
    other.check()
    assert not other.is_stopping


def test_a_run_within_a_run_stops_with_it_but_has_an_s3_of_its_own():
    with Run("http://outer").entered() as outer, Run().entered() as inner:
        assert (current(), inner.endpoint) == (inner, "")
        outer.stop()
        assert inner.is_stopping
    assert not current().is_stopping


def test_a_mistake_stops_nothing_and_leaves_the_run_before():
    with Run().entered() as outer:
        with contextlib.suppress(ValueError), Run().entered():
            raise ValueError
        assert current() is outer
        assert not outer.is_stopping


def test_what_a_recipe_takes_to_another_process_is_where_things_are(toy):
    """Counts, failures and requests to stop stay; what stands in a recipe goes through pickle."""
    plan = prepare(toy(end=2, endpoint_url="http://127.0.0.1:9"))
    plan.run.count_retry()
    plan.run.stop()
    plan.recipe.devices.lose("cpu", OSError("gone"))
    there = pickle.loads(pickle.dumps(plan.recipe))
    assert (there.run.endpoint, there.run.retries, there.run.is_stopping) == ("http://127.0.0.1:9", 0, False)
    assert (list(there.devices), there.devices.failed) == (["cpu"], {})
    assert stages.generate(there, plan.shards[0]).tokens > 0
