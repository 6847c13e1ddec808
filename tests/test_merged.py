"""A data set that is there, whole and of the same entries, is not written again; any other is."""

import json
import os
import time
from pathlib import Path

import pytest

from exptilt.local_run import prepare, run
from exptilt.storage import cleanup, filesystem, pool, process_identity


def written(folder: str) -> dict[str, int]:
    """When each file of a data set, its records among them, was written."""
    root = Path(folder)
    files = [*(path for path in root.rglob("*") if path.is_file()), root.with_name(f"{root.name}.json")]
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("kind", ["toy", "toy_original"])
def test_a_second_run_writes_nothing_and_sums_up_the_same(kind, request):
    config = request.getfixturevalue(kind)(end=70, nsamples=2)
    first = run(prepare(config))
    before = written(first.folder)
    again = run(prepare(config))
    assert written(first.folder) == before
    assert (again.tokens, again.reused["samples"]) == (0, again.shards)
    told = [(s.prompts, s.samples, s.kept, s.values, s.quality, s.json, s.pairs) for s in (first, again)]
    assert told[0] == told[1]


def without_records(folder: Path) -> None:
    folder.with_name(f"{folder.name}.json").unlink()


def other_records(folder: Path) -> None:
    folder.with_name(f"{folder.name}.json").write_text("[]")


def without_a_page(folder: Path) -> None:
    (folder / "README.md").unlink()


def a_table_cut(folder: Path) -> None:
    table = min(folder.rglob("*.parquet"))
    table.write_bytes(table.read_bytes()[:-1])


def no_manifest(folder: Path) -> None:
    (folder / pool.MANIFEST).unlink()


def an_older_manifest(folder: Path) -> None:
    said = json.loads((folder / pool.MANIFEST).read_text())
    (folder / pool.MANIFEST).write_text(json.dumps({"files": said["files"]}))


def no_object(folder: Path) -> None:
    (folder / pool.MANIFEST).write_text("[]")


DAMAGE = [
    without_records,
    other_records,
    without_a_page,
    a_table_cut,
    no_manifest,
    an_older_manifest,
    no_object,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_written_anew(toy, damage):
    config = toy(end=4, nsamples=2)
    folder = Path(run(prepare(config)).folder)
    records = folder.with_name(f"{folder.name}.json")
    expected, names = records.read_bytes(), set(written(str(folder)))
    damage(folder)
    run(prepare(config))
    assert (records.read_bytes(), set(written(str(folder)))) == (expected, names)
    before = written(str(folder))
    run(prepare(config))
    assert written(str(folder)) == before


def test_other_settings_of_one_name_write_it_anew(toy):
    for settings in ({"end": 4}, {"end": 4, "seed": 1}, {"end": 4, "seed": 1, "export": "weighted"}):
        summary = run(prepare(toy(nsamples=2, **settings)))
        said = json.loads((Path(summary.folder) / pool.MANIFEST).read_text())
        assert said["configuration"]["seed"] == settings.get("seed", 0)
        assert ("weighted" in {name.partition("/")[0] for name in said["files"]}) == ("export" in settings)


def test_leases_that_nobody_renewed_for_long_are_removed_whosever_they_are(tmp_path):
    far = process_identity.me() | {"machine": "far"}
    for name in ("old.lease", "new.lease"):
        filesystem.write_json(f"{tmp_path}/{name}", far)
    an_hour_ago = time.time() - cleanup.LONG - 60
    os.utime(tmp_path / "old.lease", (an_hour_ago, an_hour_ago))
    cleanup.sweep([str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["new.lease"]
