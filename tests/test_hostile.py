"""Hostile files and names: refused with one line or made safe; nothing is written outside, nothing hangs."""

import io
import json
import random
from pathlib import Path

import polars as pl
import pytest
import torch
from checkpoints import causal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exptilt.data import prompts, records
from exptilt.errors import ExptiltError, ModelError
from exptilt.models import reference
from exptilt.models.loading import causal_model
from exptilt.planning import import_file
from exptilt.storage import filesystem, pool

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.fixed_dictionaries({"prompt": JSON, "generated": JSON}), max_size=3)
ODD = [
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'[{"prompt": NaN, "generated": "x"}]',
    b'[{"prompt": "a", "prompt": "b", "generated": "bc"}]',
    b'[{"prompt": "\\ud800", "generated": "\\ud800x"}]',
    b'[{"prompt": "a", "generated": "ab", "x": 1' + b"0" * 5000 + b"}]",
    b"[null]",
    b"3",
    "[]".encode("utf-16"),
]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refuse_in_one_line(work) -> None:
    said = ""
    try:
        work()
    except ExptiltError as error:
        said = str(error)
    assert "\n" not in said


def read_by_all(path: Path, root: Path) -> None:
    """Read a file in every way that a run does: it works, or says in one line why not."""

    def as_records() -> None:
        tables = (table for _, table in records.tables(str(path), "prompt", "generated"))
        list(import_file.shards(tables, str(path), 2, str(root)))

    for read in (as_records, lambda: list(prompts.tables(str(path), "prompt"))):
        refuse_in_one_line(read)


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_odd_json_is_read_or_refused(tmp_path, data, ending):
    (tmp_path / f"a{ending}").write_bytes(data)
    read_by_all(tmp_path / f"a{ending}", tmp_path / "results")


@quick
@given(JSON | RECORDS | st.binary(max_size=40))
def test_any_json_is_read_or_refused(tmp_path, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for ending in (".json", ".jsonl", ".csv", ".txt"):
        (tmp_path / f"a{ending}").write_bytes(data)
        read_by_all(tmp_path / f"a{ending}", tmp_path / "results")


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "sprung")


def test_weights_that_are_a_pickle_run_nothing(tmp_path):
    folder = Path(causal(tmp_path / "model", "gpt2"))
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"^base model '.*' does not load: "):
        causal_model(reference.checkpoint(str(folder)), "cpu", "float32")
    assert not (tmp_path / "sprung").exists()


def parquet(table: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    table.write_parquet(out, compression="zstd")
    return out.getvalue()


TABLES = [
    pl.DataFrame({"prompt": ["a"] * 50, "generated": ["ab"] * 50, "n": range(50)}),
    pl.DataFrame({"prompt": [1], "generated": [None]}),
    pl.DataFrame({"prompt": [["a"]], "generated": [{"a": 1}]}),
    pl.DataFrame({"prompt": pl.Series(["a", None], dtype=pl.Categorical)}),
    pl.DataFrame({"other": [b"x"]}),
    pl.DataFrame(),
]


def test_damaged_parquet_is_read_or_refused(tmp_path):
    """Bytes changed anywhere and files cut anywhere, claimed sizes included."""
    dice, file = random.Random(0), tmp_path / "a.parquet"
    for table in TABLES:
        whole = parquet(table)
        for turn in range(60):
            data = bytearray(whole)
            for _ in range(turn % 5):
                data[dice.randrange(len(data))] = dice.randrange(256)
            file.write_bytes(bytes(data[: dice.randrange(len(data))] if turn % 7 == 6 else data))
            read_by_all(file, tmp_path / "results")


MANIFESTS = [
    '{"files": {"../../secret": {"sha256": "x"}}, "meta": {}}',
    '{"files": {"/etc/passwd": {"sha256": "x"}}, "meta": {}}',
    '{"files": {"samples": 3}, "meta": {}}',
    '{"files": {"samples": {"sha256": 3}}, "meta": {}}',
    '{"files": [["samples", {}]], "meta": {}}',
    '{"files": {"a\\ud800": {"sha256": "x"}}, "meta": {}}',
    '{"files": 3, "meta": {}}',
    '{"files": {}, "meta": 3}',
    "[" * 100_000,
    "",
]


@pytest.mark.parametrize("text", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_hostile_manifest_is_no_entry(tmp_path, monkeypatch, text):
    (tmp_path / "manifest.json").write_text(text)
    read = []
    kept = filesystem.read_bytes
    monkeypatch.setattr(filesystem, "read_bytes", lambda path: read.append(path) or kept(path))
    assert pool.find(str(tmp_path)) is None
    assert read == [f"{tmp_path}/manifest.json"] * len(read)


@quick
@given(JSON)
def test_any_manifest_is_no_entry(tmp_path, value):
    (tmp_path / "manifest.json").write_text(json.dumps(value))
    found = pool.find(str(tmp_path))
    assert found is None or found.files == {}


@quick
@given(st.text(max_size=400) | st.sampled_from(["..", "a/..", "/", "-rf", "a\nb", "x" * 300, "日" * 400]))
def test_any_name_is_a_file_of_its_folder(tmp_path, name):
    file = reference.file_name(name)
    path = tmp_path / f"{file}-{reference.file_name(prompts.short_name(name))}_0to8.json"
    assert path.parent == tmp_path
    assert path.resolve().parent == tmp_path.resolve()
    path.touch()
    path.unlink()
    assert "\n" not in file
    refuse_in_one_line(lambda: reference.checkpoint(f"{tmp_path}/{name}"))
    refuse_in_one_line(lambda: prompts.check_name(name))
