"""Storage under damage: a flaky S3, two runs at once, a full disk, a disk that turns read-only."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import s3fs
from faults import KINDS, Faults, proxy
from processes import ROOT, s3_server
from test_pipeline import DAMAGE, hurt

from exptilt.data import prompts, record_files
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.run import Run, current
from exptilt.stages.blocks import BLOCK
from exptilt.storage import exclusive, filesystem, lease, pool, process_identity, s3, s3_uploads

SMALL = {"end": 64, "shard_size": 32, "nsamples": 2}
SEED = 3
BLOCKS = 5
END = BLOCKS * BLOCK


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A real S3 server for this file: its folder, port and variables."""
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder / "store") as env:
        yield folder / "store" / "bucket", int(env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]), env


@pytest.fixture
def away(bucket, monkeypatch):
    """Reach that server through a proxy with faults of one's choice; a hang costs half a second here."""
    monkeypatch.setattr(s3, "READ_SECONDS", 0.5)
    monkeypatch.setattr(s3_uploads, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(s3, "PAUSE", 0.01)
    for name, value in bucket[2].items():
        monkeypatch.setenv(name, value)

    @contextlib.contextmanager
    def through(**how):
        with proxy(Faults(upstream=bucket[1], **how)) as faults, Run(faults.url).entered():
            yield faults

    yield through
    s3fs.S3FileSystem.clear_instance_cache()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every table and of the records of a data set."""
    files = [*folder.rglob("*.parquet"), folder.with_name(f"{folder.name}.json")]
    return {str(f.relative_to(folder.parent)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def unfinished() -> list[str]:
    """Keys of the bucket whose upload in parts was begun and neither completed nor given up."""
    fs, _ = filesystem.filesystem("s3://bucket")
    try:
        found = fs.call_s3("list_multipart_uploads", Bucket="bucket")
    except FileNotFoundError:  # so rclone says none
        return []
    return [upload["Key"] for upload in found.get("Uploads", [])]


def test_a_run_through_every_fault_gives_the_rows_of_a_clean_one(away, bucket, toy, tmp_path):
    clean = run(prepare(toy(**SMALL)))
    with away(seed=SEED, rate=0.2) as faults:
        config = toy(**SMALL, save_directory="s3://bucket/faults", endpoint_url=faults.url)
        summary = run(prepare(config))
    assert set(faults.injected) == set(KINDS)
    assert summary.retries > 0
    said = json.loads((bucket[0] / summary.folder.removeprefix("s3://bucket/") / pool.MANIFEST).read_text())
    assert said["summary"]["retries"] == summary.retries
    assert clean.retries == 0
    assert digests(bucket[0] / "faults/temp" / Path(summary.folder).name) == digests(Path(clean.folder))


@pytest.mark.parametrize("seed", [1, 5, 11])  # between them, these meet every fault
def test_an_object_of_several_parts_comes_back_whole_through_every_fault(away, monkeypatch, seed):
    """60 % of the tries fail; a request is heard three faults later at the latest."""
    monkeypatch.setattr(s3, "READ_SECONDS", 2.0)  # 16 MiB on a busy machine
    data = bytes(range(256)) * (s3.PART // 128) + b"the third part"
    with away(rate=0.6, seed=seed) as faults:
        filesystem.write_bytes("s3://bucket/large", data)
        assert filesystem.read_bytes("s3://bucket/large") == data
    assert unfinished() == []
    assert len(faults.injected) > len(KINDS) / 2
    assert any("partNumber=3" in line for line in faults.asked)


def test_a_server_that_stops_reading_costs_seconds(away, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 2)
    began = time.monotonic()
    with (
        away(rate=1.0, kinds=("hang",)),
        pytest.raises(filesystem.StorageError, match="cannot write s3://bucket/x"),
    ):
        filesystem.write_bytes("s3://bucket/x", bytes(s3.PART - 1))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", ["lost answer", "truncated"])
def test_an_upload_whose_beginning_was_not_heard_of_is_given_up(away, monkeypatch, kind):
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    with away(rate=1.0, kinds=(kind,)):
        filesystem.write_bytes("s3://bucket/twice", bytes(s3.PART))
    assert filesystem.read_bytes("s3://bucket/twice") == bytes(s3.PART)
    assert unfinished() == []


def test_a_write_that_is_given_up_leaves_the_old_object_and_no_parts(away, bucket, monkeypatch):
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    filesystem.write_bytes("s3://bucket/kept", b"old")

    def fail() -> None:
        with filesystem.writing("s3://bucket/kept") as f:
            f.write(bytes(2 * s3.PART))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert filesystem.read_bytes("s3://bucket/kept") == b"old"
    assert unfinished() == []


def test_what_cannot_pass_is_asked_once(away, monkeypatch):
    with away() as faults:
        for path in ("s3://bucket/none", "s3://no-such-bucket/x"):
            with pytest.raises(filesystem.StorageError, match="cannot read"):
                filesystem.read_bytes(path)
        assert pool.find("s3://bucket/none") is None
        assert (faults.requests, current().retries) == (3, 0)


def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_pool(away, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 2)
    with (
        away(rate=1.0, kinds=("503",)),
        pytest.raises(filesystem.StorageError, match="cannot read s3://bucket/e"),
    ):
        pool.find("s3://bucket/entry")


@pytest.mark.parametrize(
    ("how", "there"), [("honoured", False), ("not implemented", True), ("as it is", True)]
)
def test_a_lease_works_on_every_kind_of_store(away, how, there):
    """Only a store that honours the condition can refuse; no other may stop the run."""
    path = f"s3://bucket/{how}.lease"
    with away(create=how, rate=0.5, kinds=("lost answer",), seed=2):
        assert exclusive.create(path, b"mine") or filesystem.read_bytes(path) == b"mine"
        assert exclusive.create(path, b"other") == there or how == "not implemented"
        filesystem.remove(path)
        began = time.monotonic()
        with lease.held(path):
            pass
    assert time.monotonic() - began < lease.TTL / 2


def test_prompts_and_records_are_read_from_s3(away, rewards_file):
    with away():
        rows = [{"prompt": "a", "generated": "ab"}, {"prompt": "c", "generated": "cd"}]
        filesystem.write_json("s3://bucket/in/rows.json", rows)
        filesystem.write_bytes("s3://bucket/in/rows.parquet", filesystem.parquet_bytes(pl.DataFrame(rows)))
        for name in ("rows.json", "rows.parquet"):
            prompts.check_name(f"s3://bucket/in/{name}")
            (table,) = prompts.tables(f"s3://bucket/in/{name}", "prompt")
            assert table["prompt"].to_list() == ["a", "c"]
            (block,) = record_files.blocks(f"s3://bucket/in/{name}")
            assert block.records == rows
        with pytest.raises(ValueError, match=r"cannot read s3://bucket/in/no\.json: it does not exist"):
            next(prompts.tables("s3://bucket/in/no.json", "prompt"))


@pytest.mark.parametrize(
    ("damage", "stage"), [*zip(DAMAGE, ("samples", "rewards", "draws") * 2, strict=True)]
)
def test_a_damaged_entry_on_s3_is_made_again(away, bucket, toy, tmp_path, damage, stage):
    with away(rate=0.0) as faults:
        url = f"s3://bucket/{damage} {stage}".replace(" ", "-")
        config = toy(**SMALL, save_directory=url, endpoint_url=faults.url)
        place = bucket[0] / url.removeprefix("s3://bucket/")
        before = digests(Path(place, "temp", Path(run(prepare(config)).folder).name))
        file = min((place / "pool" / stage).rglob("*.parquet"))
        entry = f"{url}/{file.parent.relative_to(place)}"
        copy = shutil.copytree(file.parent, tmp_path / "copy")
        hurt(copy / file.name, damage)
        for name in filesystem.names(entry):
            if (copy / name).exists():
                filesystem.write_bytes(f"{entry}/{name}", (copy / name).read_bytes())
            else:
                filesystem.remove(f"{entry}/{name}")
        assert pool.find(entry) is None
        again = run(prepare(config))
        assert pool.find(entry) is not None
    assert digests(Path(place, "temp", Path(again.folder).name)) == before
    assert again.reused["samples"] == 2 - (stage == "samples")


def test_what_a_dead_process_left_on_s3_is_removed_and_nothing_else(away, bucket, toy):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        dead = process_identity.me() | {"pid": other.pid, "born": process_identity._born(other.pid)}
    theirs = "_".join([*process_identity.token().split("_")[:3], str(dead["pid"]), dead["born"]])
    with away(rate=0.0) as faults:
        url = "s3://bucket/left"
        run(prepare(toy(**SMALL, save_directory=url, endpoint_url=faults.url)))
        shard = min((bucket[0] / "left/pool/rewards").iterdir()).name
        kept = {
            "pool/rewards/live.lease": process_identity.me(),
            "pool/rewards/far.lease": dead | {"machine": "far"},
        }
        left = {f"pool/rewards/{shard}.lease": dead, f".probe.{theirs}.0.tmp": {}}
        for name, body in {**kept, **left}.items():
            filesystem.write_json(f"{url}/{name}", body)
        run(prepare(toy(**SMALL, lam=2.0, save_directory=url, endpoint_url=faults.url)))
    found = {str(p.relative_to(bucket[0] / "left")) for p in (bucket[0] / "left").rglob("*")}
    assert set(kept) <= found
    assert not set(left) & found


def test_a_damaged_data_set_is_written_anew(toy):
    config = toy(**SMALL)
    first = run(prepare(config))
    before = digests(Path(first.folder))
    entries = {f: f.stat().st_mtime_ns for f in Path(config.save_directory).rglob("pool/**/*.parquet")}
    tables = sorted(Path(first.folder).rglob("*.parquet"))
    tables[0].unlink()
    tables[1].write_bytes(bytes(tables[1].stat().st_size))
    tables[2].write_bytes(tables[2].read_bytes()[:-9])
    Path(first.json).write_text("[")
    (Path(first.folder) / pool.MANIFEST).unlink()
    assert digests(Path(run(prepare(config)).folder)) == before
    assert {f: f.stat().st_mtime_ns for f in entries} == entries


def gendata(rewards: str, folder: str, lam: float = 1.0, end: int = END) -> list[str]:
    command = [sys.executable, str(ROOT / "gendata.py"), "--basemodel_name=toy", f"--save_directory={folder}"]
    tilt = [f"--lam_list={lam}", f"--value_list={rewards}:bees", "--MC_nsamples=8", f"--end_index={end}"]
    return [*command, "generate_from_MC_aligned_model", *tilt]


def at_once(commands: list[list[str]], **more: str) -> None:
    """Run processes at the same time, with these variables; each ends well."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    running = [
        subprocess.Popen(c, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for c in commands
    ]
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), said


@pytest.mark.parametrize(
    ("how", "lams"),
    [
        ("honoured", (1.0, 1.0)),
        pytest.param("honoured", (1.0, 2.0), marks=pytest.mark.soak),
        pytest.param("as it is", (1.0, 1.0), marks=pytest.mark.soak),
        pytest.param("as it is", (1.0, 2.0), marks=pytest.mark.soak),
    ],
)
def test_two_processes_at_once_on_s3_give_the_rows_of_one(away, bucket, toy, rewards_file, how, lams):
    """Where the store can lock, a shard is generated once; where it cannot, twice, and the same."""
    place = f"two {how} {lams}"
    with away(create=how) as faults:
        runs = [gendata(rewards_file, f"s3://bucket/{place}", lam) for lam in lams]
        at_once(runs, AWS_ENDPOINT_URL=faults.url)
    for lam in set(lams):
        alone = run(prepare(toy(end=END, nsamples=8, lam=lam)))
        assert digests(bucket[0] / place / "temp" / Path(alone.folder).name) == digests(Path(alone.folder))
    made = [line for line in faults.asked if line.startswith("PUT") and "/samples-" in line]
    drawn = [line for line in made if "/pool/" in line]
    assert len(set(drawn)) == BLOCKS
    assert how == "as it is" or len(drawn) == BLOCKS
    assert list(bucket[0].glob(f"{place}/**/*.lease")) == []


MOUNTED = """
tries() { "$@" > said 2>&1; echo "code $?"; grep -E '^(error: |  shard )' said; grep -c Traceback said; }
mount -t tmpfs -o size=100k tmpfs disk || exit 77
tries "$@"
mount -o remount,size=100m disk
(until [ $(ls disk/results/pool/rewards | wc -l) -gt 2 ]; do sleep 0.02; done
 until mount -o remount,ro disk 2> /dev/null; do :; done) &
tries "$@"
wait
find disk -name '*.parquet' | xargs sha256sum | sort > before
mount -o remount,rw disk
tries "$@"
sha256sum --quiet -c before && echo kept
cp -r disk/results out
"""


def test_a_disk_that_fills_up_or_turns_read_only_costs_no_finished_shard(toy, rewards_file, tmp_path):
    (tmp_path / "disk").mkdir()
    command = gendata(rewards_file, "disk/results", end=320)
    script = ["sh", "-c", MOUNTED, "sh", *command]
    alone = ["unshare", "-rm", *script] if shutil.which("unshare") else script
    done = subprocess.run(
        alone, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount of one's own is allowed here")
    said = done.stdout.splitlines()
    codes = ["code 1", *said[1:3], "0", "code 1", *said[5:7], "0", "code 0", "0", "kept"]
    assert said == codes, done.stdout + done.stderr
    for place, why in ((1, "No space left on device"), (5, "Read-only file system")):
        assert "shards failed; the others are saved" in said[place]
        assert re.fullmatch(rf"  shard [0-9, ]+: cannot write disk/results/pool/.*{why}", said[place + 1])
    clean = run(prepare(toy(end=320, nsamples=8)))
    assert digests(tmp_path / "out/temp" / Path(clean.folder).name) == digests(Path(clean.folder))
