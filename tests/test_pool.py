"""A pool listed, verified and pruned: what an output refers to stays, and its command reads it all again."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import s3fs
from processes import s3_server
from rich.console import Console

from exptilt import local_run
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import ConfigError, StorageError
from exptilt.stages import claims
from exptilt.storage import inventory
from exptilt.upkeep import contents, prune, references, verify

COMMAND = [sys.executable, "-m", "exptilt.command", "pool"]
OWN = """
def bees(prompts, completions): return [float("b" in c) for c in completions]
def length(prompts, completions): return [float(len(c)) for c in completions]
def picky(prompts, completions):
    return [float("nan") if "40" in p.split() or p == FIRST else 1.0 for p in prompts]
"""
JUDGE = """
kind = "mean"
[members]
"{0}:bees" = {{ mean = 0.5, sd = 0.5 }}
"{0}:length" = {{ mean = 3.0, sd = 2.0 }}
"""
BASE = {"basemodel": "toy", "end": 40, "nsamples": 4, "page_prompts": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root with an output of each kind, and their configurations by name."""
    home = tmp_path_factory.mktemp("pool")
    own, judge, root = home / "own.py", home / "judge.toml", home / "results"
    judge.write_text(JUDGE.format(own))
    bees, base = f"{own}:bees", {**BASE, "save_directory": str(root)}
    own.write_text(OWN)
    first = local_run.prepare(build(MCAligned, {**base, "value": bees, "lam": 1.0}))
    prompt = pl.read_parquet(f"{first.shards[0].prompts}/*.parquet")["prompt"][0]
    own.write_text(OWN.replace("FIRST", repr(prompt)))
    shutil.rmtree(root)
    tilted = {**base, "value": bees}
    configs = {
        "plain": build(MCAligned, {**tilted, "lam": 1.0}),
        "warm": build(MCAligned, {**tilted, "lam": 2.0, "temperature": 2.0}),
        "topped": build(MCAligned, {**tilted, "lam": 3.0, "min_ess": 3.0, "max_nsamples": 8}),
        "judge": build(MCAligned, {**base, "value": f"judge={judge}", "lam": 0.5}),
        "missing": build(
            MCAligned, {**base, "value": f"{bees},{own}:picky", "lam": (1.0, 1.0), "allow_missing": True}
        ),
        "sweep": build(Sweep, {**tilted, "lam": ("bees=-1:1:1",), "save": ("3",)}),
        "palette": build(Palette, {**tilted, "target": ("bees=+0.05",)}),
    }
    outcomes = {name: local_run.run(local_run.prepare(config)) for name, config in configs.items()}
    records = home / "texts.json"
    shutil.copy(outcomes["plain"].json, records)
    scored = {"file": str(records), "output": str(home / "out.jsonl"), "save_directory": str(root)}
    configs["score"] = build(Scoring, {**scored, "value": f"long={own}:length"})
    outcomes["score"] = local_run.run(local_run.prepare(configs["score"]))
    configs["of file"] = build(
        Sweep,
        {
            "file": configs["score"].output,
            "value": "long",
            "lam": ("long=-1:1:1",),
            "save_directory": str(root),
        },
    )
    outcomes["of file"] = local_run.run(local_run.prepare(configs["of file"]))
    return root, configs, outcomes


@pytest.fixture
def root(made, tmp_path):
    """A copy of that root."""
    shutil.copytree(made[0], tmp_path / "results")
    return tmp_path / "results"


def pruned(root, days=0.0, yes=True) -> str:
    out = io.StringIO()
    prune.prune(str(root), days, yes, Console(file=out, width=10_000))
    return out.getvalue()


def names(root) -> set[str]:
    return {
        found.name
        for found in inventory.walk(str(root))
        if isinstance(found, inventory.Folder) and found.entry
    }


def again(root, config):
    return local_run.run(local_run.prepare(config.model_copy(update={"save_directory": str(root)})))


def reads_all(root, config) -> bool:
    """Whether the run of a configuration leaves the pool's entries as they are."""
    before = {path: path.stat().st_mtime_ns for path in (root / "pool").rglob("*.parquet")}
    again(root, config)
    return before == {path: path.stat().st_mtime_ns for path in (root / "pool").rglob("*.parquet")}


def test_what_any_output_refers_to_stays_and_its_command_reads_it_all_again(made, root):
    unnamed = names(root)
    pruned(root)
    unnamed -= names(root)
    assert {name.partition("/")[0] for name in unnamed} <= {"prompts", "counts"}  # of rounds of top-up
    for name, config in made[1].items():
        if name != "score":
            assert reads_all(root, config) or name == "topped", name
    assert made[2]["missing"].missing


def test_what_only_a_deleted_output_referred_to_goes(made, root):
    config, before = made[1]["warm"], made[2]["warm"]
    folder = root / Path(before.folder).relative_to(made[0])
    rows = pl.read_parquet(f"{folder}/samples/*.parquet")
    shutil.rmtree(folder)
    listed = pruned(root, yes=False)
    assert [*names(root)] == [*names(made[0])]
    assert "temperature 2" in listed
    assert "nothing is deleted: --prune --yes does it" in listed
    gone = names(root)
    deleted = pruned(root)
    gone -= names(root)
    assert {"samples", "rewards", "draws"} <= {name.partition("/")[0] for name in gone}
    assert "deleted" in deleted
    for name in ("plain", "judge", "missing", "sweep", "palette", "of file"):
        assert reads_all(root, made[1][name]), name
    summary = again(root, config)
    assert summary.tokens > 0
    assert pl.read_parquet(f"{folder}/samples/*.parquet").equals(rows)


def test_outputs_of_an_older_version_refer_to_all_of_their_model(made, root):
    manifest = root / Path(made[2]["warm"].folder).relative_to(made[0]) / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["pool"]
    manifest.write_text(json.dumps(said))
    pruned(root)
    assert "1 output of an older version" in pruned(root)
    assert reads_all(root, made[1]["warm"])
    assert "pool" in json.loads(manifest.read_text())  # the run has named its entries
    assert not [output for output in references.find(str(root)).outputs if output.entries is None]


def test_nothing_goes_while_a_run_is_at_work_or_a_manifest_is_unreadable(made, root):
    shutil.rmtree(root / "temp")
    run = local_run.prepare(made[1]["plain"].model_copy(update={"save_directory": str(root)})).run
    with claims.at_work(run, str(root)), pytest.raises(StorageError, match=r"a run is at work .* nothing is"):
        pruned(root)
    assert "held by a run" in pruned(root, days=1)
    (root / "half").mkdir()
    (root / "half" / "manifest.json").write_text('{"configuration"')
    with pytest.raises(StorageError, match=r"not known what an output refers to: .*half/manifest\.json"):
        pruned(root)
    assert names(root) >= names(made[0])


def test_what_is_not_the_pools_own_stays(root):
    shutil.rmtree(root / "temp")
    entry = next((root / "pool" / "draws").iterdir())
    foreign = [root / "pool" / "notes.txt", entry / "mine.csv", root / "pool" / "extra" / "manifest.json"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    records = [*(root / "pool" / "runs").iterdir()]
    pruned(root)
    assert all(path.exists() for path in [*foreign, *records])
    assert [path.name for path in entry.iterdir()] == ["mine.csv"]
    assert not (root / "pool" / "draws" / "gone").exists()
    unknown = contents.gather(str(root)).unknown
    assert sorted(unknown) == sorted([str(foreign[0]), str(foreign[1]), str(foreign[2].parent)])


def test_a_prune_that_was_cut_off_leaves_a_pool_that_works(made, root):
    """An entry loses its manifest first: what is left of it is unfinished, made again, or pruned later."""
    for stage in ("samples", "rewards", "draws"):
        next((root / "pool" / stage).rglob("manifest.json")).unlink()
    assert len(contents.gather(str(root)).partial) == 3
    for name, config in made[1].items():
        assert name == "score" or again(root, config)
    assert contents.gather(str(root)).partial == []
    assert not [checked for checked in verify.check(str(root)) if checked.faults]
    next((root / "pool" / "draws").rglob("manifest.json")).unlink()
    shutil.rmtree(root / "temp")
    assert "draws, unfinished" in pruned(root)


def test_every_damaged_entry_is_named_and_made_again(made, root):
    tables = {
        stage: next((root / "pool" / stage).rglob("*.parquet")) for stage in ("samples", "rewards", "draws")
    }
    tables["samples"].write_bytes(tables["samples"].read_bytes()[:-7])
    data = bytearray(tables["rewards"].read_bytes())
    data[20] ^= 1
    tables["rewards"].write_bytes(data)
    tables["draws"].unlink()
    manifest = next((root / "pool" / "explored").rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace('"rows": ', '"rows": 1'))
    done = subprocess.run([*COMMAND, str(root), "--verify"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 5
    for path, what in (
        (tables["samples"], "altered: .* bytes, and .* were written; a run draws it again"),
        (tables["rewards"], "altered since it was written; a run scores it again"),
        (tables["draws"], "missing; a run resamples it again"),
        (manifest, "not as it was written; a run computes it again"),
    ):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{path}: ")]
        assert re.search(what, line)
    assert done.stdout.splitlines()[-1].endswith("4 damaged")


def test_the_listing_counts_what_the_data_sets_hold(made):
    found = contents.gather(str(made[0]))
    (warm,) = [m for m in found.models.values() if m.origin.get("p0", {}).get("temperature") == 2]
    assert (warm.starts[0], warm.samples.rows, dict(warm.values)) == (40, 160, {"bees": 160})
    assert len(warm.outputs) == 1
    files = [path for path in (made[0] / "pool").rglob("*") if path.is_file()]
    of_entries = [p for p in files if p.suffix == ".parquet" or p.name == "manifest.json"]
    assert found.total.size == sum(path.stat().st_size for path in of_entries)
    assert {output.entries is None for output in found.references.outputs} == {False}
    done = subprocess.run([*COMMAND, str(made[0] / "pool")], capture_output=True, text=True, check=True)
    assert f"{made[0]}/pool: {found.total.entries:,} entries" in done.stdout
    for outcome in ("plain", "missing", "topped"):
        assert made[2][outcome].folder in done.stdout


@pytest.mark.parametrize("folder", [".", "pool/draws"])
def test_a_folder_without_a_pool_is_refused(tmp_path, folder):
    with pytest.raises(ConfigError, match="no pool lies there"):
        inventory.root_of(str(tmp_path / folder))


def test_a_pool_on_s3_is_listed_verified_and_pruned(made, tmp_path, monkeypatch):
    there, url = tmp_path / "store" / "bucket" / "results", "s3://bucket/results"
    shutil.copytree(made[0], there)
    shutil.rmtree(there / Path(made[2]["warm"].folder).relative_to(made[0]))
    with s3_server(tmp_path / "store") as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        found, here = contents.gather(url), contents.gather(str(made[0]))
        assert (found.total.entries, found.total.size) == (here.total.entries, here.total.size)
        deleted = pruned(url)
        assert "temperature 2" in deleted
        left = names(url)
        assert {"samples", "rewards", "draws"} <= {name.partition("/")[0] for name in names(made[0]) - left}
        checked = list(verify.check(url))
        assert {each.folder.name for each in checked} == left
        assert not any(each.faults for each in checked)
    s3fs.S3FileSystem.clear_instance_cache()
