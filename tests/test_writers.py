"""Several writers of one entry, each with other rows: one entry counts, whole, and the others take it."""

import contextlib
import errno
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import s3fs
from faults import Faults, proxy
from processes import ROOT, s3_server

from exptilt.run import Run, carried
from exptilt.storage import cleanup, exclusive, filesystem, pool, schemas

WRITERS = 6
STORES = ["local", "honoured", "as it is", "not implemented"]
EXCLUSIVE = ["local", "honoured"]


def counts(writer: int) -> pl.DataFrame:
    """A table that says who wrote it."""
    rows = {"prompt_id": [f"p{i}" for i in range(40)], "n": [writer] * 40}
    return pl.DataFrame(rows).cast(schemas.COUNTS)


def writer_of(entry: pool.Entry | None) -> int:
    """Who wrote the entry, which is of one hand."""
    assert entry is not None
    (writer,) = entry.table("counts")["n"].unique().to_list()
    return int(writer)


def put(path: str, writer: int) -> pool.Entry:
    return pool.put(path, {"counts": counts(writer)}, {"writer": writer})


def at_once(works):
    """What works give that begin together, in a thread each."""
    gate = threading.Barrier(len(works))

    def work(each):
        gate.wait(30)
        return each()

    with ThreadPoolExecutor(len(works)) as threads:
        return [done.result() for done in [threads.submit(carried(work), each) for each in works]]


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The port of a real S3 server for this file, and the variables that reach it."""
    with s3_server(tmp_path_factory.mktemp("s3") / "store") as env:
        yield int(env["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]), env


@pytest.fixture
def store(request, s3, tmp_path, monkeypatch):
    """A folder of the kind of store that is asked for, and the variables that reach it."""
    if request.param == "local":
        yield str(tmp_path), {}
        return
    for name, value in s3[1].items():
        monkeypatch.setenv(name, value)
    with proxy(Faults(upstream=s3[0], create=request.param)) as faults, Run(faults.url).entered():
        yield f"s3://bucket/{tmp_path.name}", {**s3[1], "AWS_ENDPOINT_URL": faults.url}
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_of_several_writers_at_once_one_counts_for_every_reader(store, request):
    path = f"{store[0]}/entry"
    given = at_once([lambda writer=writer: put(path, writer) for writer in range(WRITERS)])
    there = pool.find(path)
    assert writer_of(there) == there.meta["writer"]
    assert all(writer_of(entry) == entry.meta["writer"] for entry in given)
    if request.node.callspec.params["store"] in EXCLUSIVE:
        assert {writer_of(entry) for entry in given} == {writer_of(there)}
        assert filesystem.names(path) == sorted([pool.MANIFEST, Path(there.file("counts")).name])


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_who_comes_second_gets_the_entry_of_the_first_on_every_store(store):
    path = f"{store[0]}/entry"
    first = put(path, 1)
    assert (writer_of(put(path, 2)), writer_of(pool.find(path))) == (1, 1)
    assert put(path, 1).files == first.files
    assert filesystem.names(path) == sorted([pool.MANIFEST, Path(first.file("counts")).name])


OTHER = """
import sys
from test_writers import put, writer_of
for number in range(int(sys.argv[3])):
    print(writer_of(put(f"{sys.argv[1]}/{number}", int(sys.argv[2]))), flush=True)
"""


@pytest.mark.parametrize("store", EXCLUSIVE, indirect=True)
def test_processes_that_write_the_same_entries_agree_on_each(store, monkeypatch):
    root, env = store
    entries, paths = 12, f"{ROOT}:{ROOT / 'tests'}"
    commands = [[sys.executable, "-c", OTHER, root, str(writer), str(entries)] for writer in range(3)]
    running = [
        subprocess.Popen(command, env={"PYTHONPATH": paths, **env}, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    given = [process.communicate(timeout=120)[0].split() for process in running]
    there = [str(writer_of(pool.find(f"{root}/{number}"))) for number in range(entries)]
    assert given == [there] * 3


def missing(folder: Path, file: Path) -> None:
    file.unlink()


def truncated(folder: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def half_a_manifest(folder: Path, file: Path) -> None:
    manifest = folder / pool.MANIFEST
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])


def empty_manifest(folder: Path, file: Path) -> None:
    (folder / pool.MANIFEST).write_bytes(b"")


def altered_manifest(folder: Path, file: Path) -> None:
    manifest = folder / pool.MANIFEST
    manifest.write_text(manifest.read_text().replace('"rows": 40', '"rows": 41'))


def another_file(folder: Path, file: Path) -> None:
    """A manifest that leads out of its folder."""
    manifest = folder / pool.MANIFEST
    said = json.loads(manifest.read_text())
    said["files"]["counts"]["file"] = f"../{file.name}"
    file.rename(folder.parent / file.name)
    manifest.write_text(json.dumps({name: said[name] for name in ("files", "meta")}))


DAMAGE = [missing, truncated, half_a_manifest, empty_manifest, altered_manifest, another_file]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_counts_as_absent_and_is_replaced_once(tmp_path, damage):
    path = tmp_path / "entry"
    damage(path, Path(put(str(path), 7).file("counts")))
    assert pool.find(str(path)) is None
    given = at_once([lambda writer=writer: put(str(path), writer) for writer in range(WRITERS)])
    there = pool.find(str(path))
    assert writer_of(there) in range(WRITERS)
    assert {writer_of(entry) for entry in given} == {writer_of(there)}
    cleanup.sweep([str(path)])
    assert filesystem.names(str(path)) == sorted([pool.MANIFEST, Path(there.file("counts")).name])


def test_tables_that_no_manifest_names_are_removed_and_nothing_else(tmp_path):
    entry = put(str(tmp_path / "entry"), 1)
    bare = tmp_path / "bare"  # begun, and not finished
    for folder in (tmp_path / "entry", bare):
        folder.mkdir(exist_ok=True)
        for name in ("counts-0123456789abcdef.parquet", "counts.parquet", "mine.parquet", "counts-1.parquet"):
            (folder / name).write_bytes(b"x")
    cleanup.sweep(map(str, (tmp_path / "entry", bare)))
    kept = ["counts-1.parquet", "mine.parquet"]
    assert filesystem.names(entry.path) == sorted([*kept, pool.MANIFEST, Path(entry.file("counts")).name])
    assert len(filesystem.names(str(bare))) == 4
    assert writer_of(pool.find(entry.path)) == 1


def test_a_writer_that_died_before_its_manifest_leaves_no_entry(tmp_path):
    path = tmp_path / "entry"
    code = (
        "import os, signal, sys; from test_writers import put\n"
        "from exptilt.storage import exclusive\n"
        "exclusive.create = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "put(sys.argv[1], 1)"
    )
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    dead = subprocess.run([sys.executable, "-c", code, str(path)], env=env, timeout=120, check=False)
    assert (dead.returncode, pool.find(str(path))) == (-9, None)
    assert len(filesystem.names(str(path))) == 1
    assert writer_of(put(str(path), 2)) == 2
    cleanup.sweep([str(path)])
    assert len(filesystem.names(str(path))) == 2


@pytest.mark.parametrize("links", [True, False])
def test_one_of_several_creates_a_file_which_appears_whole(tmp_path, monkeypatch, links):
    if not links:  # as on some network file systems

        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    for number in range(20):
        path = f"{tmp_path}/{number}"
        texts = [str(writer).encode() * 1000 for writer in range(WRITERS)]
        made = at_once([lambda text=text: exclusive.create(path, text) for text in texts])  # noqa: B023
        assert filesystem.read_bytes(path) == texts[made.index(True)]
        assert made.count(True) == 1
    assert len(list(tmp_path.iterdir())) == 20


def test_who_reads_a_file_that_is_created_sees_all_of_it(tmp_path):
    data, done = b"x" * 2**20, threading.Event()
    seen = set()

    def reading():
        while not done.is_set():
            for number in range(50):
                with contextlib.suppress(filesystem.StorageError):
                    seen.add(filesystem.read_bytes(f"{tmp_path}/{number}"))

    def creating():
        for number in range(50):
            assert exclusive.create(f"{tmp_path}/{number}", data)
        done.set()

    at_once([reading, creating])
    assert seen <= {data}


def test_a_store_that_loses_what_is_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(exclusive, "create", lambda *_: True)
    text = re.escape(f"cannot write {tmp_path}/entry/manifest.json: what was written did not come back")
    with pytest.raises(filesystem.StorageError, match=text):
        put(f"{tmp_path}/entry", 1)
