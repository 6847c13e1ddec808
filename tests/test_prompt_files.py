"""Prompts of several files, of folders and of compressed files: the same rows as of one file, or one line."""

import codecs
import gzip
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import s3fs
from processes import s3_server
from test_prompts import loaded, texts
from test_records import rows_of, scored

from exptilt.config.command_line import command_line
from exptilt.config.scoring import Scoring
from exptilt.config.settings import Original
from exptilt.config.validation import build
from exptilt.data import compressed, file_names, file_sets, in_memory, prompts, text_files
from exptilt.errors import ConfigError, ExptiltError
from exptilt.storage import keys

ROWS = ["Zwölf Boxkämpfer", "🙂 “quotes”, \ufeff and commas", "ࠀ", "one"]


def lines(rows: list) -> str:
    return "".join(json.dumps({"prompt": row}, ensure_ascii=False) + "\n" for row in rows)


WRITTEN = {
    "a.txt": "\r\n".join,
    "a.jsonl": lines,
    "a.json": lambda rows: json.dumps([{"prompt": row} for row in rows]),
    "a.csv": lambda rows: "\r\n".join(["prompt,n", *(f'"{row}",1' for row in rows)]),
}


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


PACKED = {
    ".gz": gzip.compress,
    ".zst": zstd,
    ".GZ": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    ".ZST": lambda data: zstd(data[:5]) + zstd(data[5:]),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", WRITTEN)
def test_a_compressed_file_is_the_file_within(tmp_path, monkeypatch, name, packed):
    """Also in parts that follow each other, with a byte order mark, and read a few bytes at a time."""
    path = tmp_path / f"{name}{packed}"
    for encoding, mark in (("utf-8", b""), ("utf-8-sig", b""), ("utf-16-le", codecs.BOM_UTF16_LE)):
        path.write_bytes(PACKED[packed](mark + WRITTEN[name](ROWS).encode(encoding)))
        for size in (1, 2**16):
            monkeypatch.setattr(text_files, "PIECE", size)
            table = loaded(str(path))
            assert table["prompt"].to_list() == ROWS
            assert table["prompt_id"].to_list() == [keys.prompt_id(row) for row in ROWS]
    assert set(table["source"]) == {"a"}


def refusal(data: object) -> str:
    """The one line with which prompts are refused."""

    def read() -> None:
        prompts.check_name(str(data))
        loaded(str(data))

    with pytest.raises(ExptiltError) as stopped:
        read()
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


DAMAGE = {
    "cut": lambda packed: packed[:-5],
    "more behind it": lambda packed: packed + b"more",
    "not compressed": lambda packed: lines(ROWS).encode(),
}


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_archive_is_named(tmp_path, ending, how):
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(DAMAGE[how](PACKED[ending](lines(ROWS * 99).encode())))
    kind = {".gz": "gzip", ".zst": "zstd"}[ending]
    said = refusal(path)
    assert f"--data {path}: cannot be read (damaged, cut, or not {kind}: " in said


def test_a_compressed_parquet_file_is_no_format(tmp_path):
    (tmp_path / "a.parquet.gz").write_bytes(b"")
    assert "not a file of rows" in refusal(tmp_path / "a.parquet.gz")
    assert "there is no such file" in refusal(tmp_path / "no.jsonl.gz")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder: data/ with three files of prompts, and what is hidden there."""
    (tmp_path / "data" / "more").mkdir(parents=True)
    (tmp_path / "data" / "b.jsonl").write_text(lines(["three", "one"]))
    (tmp_path / "data" / "a 1.jsonl.gz").write_bytes(gzip.compress(lines(["one", "two"]).encode()))
    (tmp_path / "data" / "more" / "c.jsonl").write_text(lines(["four"]))
    for hidden in ("_SUCCESS", ".b.jsonl", "_b.jsonl", "README.md"):
        (tmp_path / "data" / hidden).write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ALL = ["one", "two", "three", "one", "four"]
SETS = {
    "data": ALL,
    "data/": ALL,
    "./data": ALL,
    "data/*.jsonl*": ALL[:4],
    "data/**/*.jsonl": ["three", "one", "four"],
    "data/[ab]*": ALL[:4],
    "dat?/more": ["four"],
    "data/b.jsonl,data/a 1.jsonl.gz": ["three", "one", "one", "two"],
    " data/b.jsonl, data/more ,": ["three", "one", "four"],
    "data/b.jsonl": ["three", "one"],
}


@pytest.mark.parametrize("data", SETS)
def test_several_files_are_their_rows_in_order(folder, data):
    for name in (data, ",".join(str(folder / part.strip()) for part in data.split(",") if part.strip())):
        prompts.check_name(name)
        table = loaded(name)
        assert table["prompt"].to_list() == SETS[data]
        assert table["prompt_index"].to_list() == list(range(len(SETS[data])))
        repeated = SETS[data].count("one") > 1
        assert (keys.prompt_id("one", 1) in table["prompt_id"].to_list()) == repeated


def test_the_source_is_file_and_row(folder):
    assert loaded("data")["source"].to_list() == [
        "a 1.jsonl.gz:0",
        "a 1.jsonl.gz:1",
        "b.jsonl:0",
        "b.jsonl:1",
        "more/c.jsonl:0",
    ]
    (folder / "data" / "b.jsonl").write_text(lines(["three", ""]))
    assert refusal("data") == "--data data: prompt 3 (b.jsonl:1) is empty"


def test_what_is_called_so_is_meant_whatever_stands_in_its_name(folder):
    for name in ("a,b.jsonl", "*.jsonl", "[1].jsonl", "x: y.jsonl"):
        Path(name).write_text(lines([name]))
    for name in ("a,b.jsonl", "*.jsonl", "[1].jsonl", "x: y.jsonl"):
        assert texts(name) == [name]
        assert prompts.short_name(name) == name.removesuffix(".jsonl").replace("*", "*")
    assert texts("a,b.jsonl,*.jsonl") == ["a,b.jsonl", "*.jsonl"]
    assert texts("[[]1].jsonl") == ["[1].jsonl"]


REFUSED = {
    "data/*.csv": "--data data/*.csv: no file matches",
    "data/*": "--data data/README.md: not a file of rows; known are .json",
    "data/b.jsonl,data/no.jsonl": "--data data/no.jsonl: there is no such file",
    "data/b.jsonl,no": "--data no: there is no such file or folder",
    "data/b.jsonl,data/*.jsonl": "b.jsonl: the file is there 2 times",
    "data/*.jsonl,data/b.jsonl.gz": "b.jsonl: the file is there 2 times",
    "data:test": "--data data has no split 'test'; there are none",
    "empty": "--data empty: the folder holds no file of rows",
    "mixed": "--data mixed: the folder holds files of several formats (.csv, .txt)",
    "other": "--data other/b.jsonl: its prompts stand in column 'prompt', those of other/a.jsonl in ",
    "lacking": "--data lacking/b.jsonl: no column 'prompt'; its columns are text",
    "broken": "--data broken/b.jsonl: cannot be read (record 0: ",
}


@pytest.mark.parametrize("data", REFUSED)
def test_what_is_no_set_of_prompts_is_named(folder, data):
    files = {
        "mixed/a.csv": "prompt\nx",
        "mixed/b.txt": "x",
        "other/a.jsonl": json.dumps({"messages": [{"role": "user", "content": "x"}]}),
        "other/b.jsonl": lines(["x"]),
        "lacking/a.jsonl": lines(["x"]),
        "lacking/b.jsonl": '{"text": "x"}',
        "broken/a.jsonl": lines(["x"]),
        "broken/b.jsonl": "{",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    Path("empty").mkdir()
    if "b.jsonl.gz" in data:
        Path("data/b.jsonl.gz").write_bytes(gzip.compress(b""))
    assert REFUSED[data] in refusal(data)


def test_a_folder_of_splits_is_read_by_one_of_them(folder):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        Path("lab/set/data").mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"prompt": [name]}).write_parquet(f"lab/set/data/{name}.parquet")
    train = ["train-00000-of-00002", "train-00001-of-00002"]
    assert texts("lab/set") == texts("lab/set:train") == texts(f"{folder}/lab/set:train") == train
    assert texts("lab/set:test") == ["test-00000-of-00001"]
    said = refusal(f"{folder}/lab/set")
    assert "has several splits: name one, or all by a pattern; there are" in said
    assert said.endswith(f"there are {folder}/lab/set:test, {folder}/lab/set:train")
    assert "has no split 'dev'" in refusal("lab/set:dev")
    shutil.copytree("lab/set/data", "lab/set/other")
    assert "lab/set has several configurations (data, other): name one, as lab/set/data" in refusal("lab/set")
    assert texts("lab/set/other:train") == train
    shutil.rmtree("lab/set/other")
    Path("lab/set/data/more.parquet").write_bytes(
        Path("lab/set/data/test-00000-of-00001.parquet").read_bytes()
    )
    assert len(texts("lab/set")) == 4


def test_a_folder_of_save_to_disk_is_read_as_it_was_saved(folder):
    import datasets

    one = datasets.Dataset.from_dict({"prompt": ["a", "b", "c"], "n": [1, 2, 3]})
    one.save_to_disk("one", num_shards=2)
    one.select([2, 0]).save_to_disk("chosen")
    datasets.DatasetDict(train=one, test=one.select([1])).save_to_disk("both")
    datasets.DatasetDict(only=one).save_to_disk("lab/only")
    assert texts("one") == texts(f"{folder}/one") == texts("lab/only") == ["a", "b", "c"]
    assert texts("chosen") == ["c", "a"]
    assert texts("both:test") == ["b"]
    assert loaded("one,chosen")["source"].to_list() == ["one:0", "one:1", "one:2", "chosen:0", "chosen:1"]
    said = "--data both has several splits: name one, or all by a pattern; there are both:test, both:train"
    assert refusal("both") == said
    assert "one has no split 'train'" in refusal("one:train")
    for file in Path("one").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    assert "--data one: cannot be read (" in refusal("one")
    with pytest.raises(ConfigError, match="no column 'q'; its columns are prompt, n"):
        texts("chosen", "q")


def test_several_files_are_given_as_a_list_a_repeated_flag_or_with_commas(folder):
    Path("c.toml").write_text('data = ["data/b.jsonl", "data/more"]')
    for argv in (
        ["--data", "data/b.jsonl,data/more"],
        ["--data", "data/b.jsonl", "--data", "data/more"],
        ["--config", "c.toml"],
    ):
        config = command_line(Original, argv)
        assert config == build(Original, {"data": ["data/b.jsonl", "data/more"]})
        assert texts(config.data) == ["three", "one", "four"]
    with pytest.raises(ConfigError, match="must not hold credentials"):
        build(Original, {"data": "data/b.jsonl, s3://key:secret@bucket/a.jsonl"})


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_scores_are_written_into_a_file_compressed_as_it_is_called(tmp_path, rewards_file, name, packed):
    rows = [{"prompt": "p", "generated": f"p{'b' * (i % 2)}{i}"} for i in range(50)]
    text = json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))
    path = tmp_path / f"{name}{packed}"
    path.write_bytes(PACKED[packed](text.encode()))
    asked = {"value": (f"{rewards_file}:bees",), "save_directory": str(tmp_path / "results")}
    scored(Scoring(file=str(path), **asked))
    expected = [{**row, "bees": float(i % 2)} for i, row in enumerate(rows)]
    assert rows_of(path) == expected
    with compressed.reading(str(path)) as f:
        assert f.read(1) == (b"{" if "jsonl" in name else b"[") != path.read_bytes()[:1]
    scored(Scoring(file=str(path), output=str(tmp_path / f"two{packed}.jsonl"), **asked))
    assert (tmp_path / f"two{packed}.jsonl").read_bytes()[:1] == b"{"


def test_what_is_written_in_frames_is_one_text(monkeypatch):
    monkeypatch.setattr(compressed, "FRAME", 7)
    pieces = [b"abc", b"", b"defgh", b"i" * 30, b"j"]
    packed = b"".join(compressed.written(pieces, "a.zst"))
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as f:
        assert f.read() == b"".join(pieces)
    assert gzip.decompress(b"".join(compressed.written(pieces, "a.gz"))) == b"".join(pieces)
    assert list(compressed.written(pieces, "a.txt")) == pieces


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("data/a.jsonl.gz", "a"),
        ("data/a.b.parquet", "a.b"),
        ("data/part-*.jsonl", "part"),
        ("data/*.jsonl", "data"),
        ("s3://bucket/set/**/*.jsonl.zst", "prompts"),
        ("s3://bucket/set", "set"),
        ("s3://bucket/set:test", "set-test"),
        ("/x/a.jsonl,/x/b.jsonl,c", "a-and-2-more"),
        ("org/name:test", "name"),
        ("demo", "demo"),
    ],
)
def test_sets_have_short_names(data, name):
    assert prompts.short_name(data) == name


def test_a_list_of_paths_is_files_and_a_list_of_texts_is_prompts(folder):
    paths = [Path("data/b.jsonl"), Path("data/more")]
    assert texts(in_memory.prompt_file(paths, "prompt", "results")) == ["three", "one", "four"]
    assert texts(in_memory.prompt_file(["a", "data"], "prompt", "results")) == ["a", "data"]
    for mixed, said in (
        ([paths[0], "a"], "'a' is no Path"),
        (["data/b.jsonl", "a"], "'data/b.jsonl' is a file"),
        (["s3://bucket/a.jsonl.gz"], "is a file: to read files, give a list of pathlib.Path"),
    ):
        with pytest.raises(ConfigError, match=said):
            in_memory.prompt_file(mixed, "prompt", "results")


def test_files_are_those_that_are_listed_whatever_the_disk_gives_first(folder, monkeypatch):
    before = [file.path for file in file_sets.files_of("data")]
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: reversed([(w, f, n[::-1]) for w, f, n in walk(*a, **k)]))
    assert [file.path for file in file_sets.files_of("data")] == before
    assert file_names.names_of(file_sets.files_of("data")) == ["a 1.jsonl.gz", "b.jsonl", "more/c.jsonl"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A real S3 server; the folder of its bucket."""
    folder = tmp_path_factory.mktemp("s3") / "store"
    with s3_server(folder) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield folder / "bucket"


def test_a_store_gives_the_same_rows_as_a_disk(folder, bucket):
    import datasets

    datasets.Dataset.from_dict({"prompt": ["a", "b"]}).save_to_disk("data/more/saved")
    Path("data/x*.jsonl").write_text(lines(["five"]))
    shutil.copytree("data", bucket / "data")
    sets = ["data/[ab]*", "data/b.jsonl,data/a 1.jsonl.gz", "data/more/saved", "data/x*.jsonl", "data"]
    for data in sets:
        remote = ",".join(f"s3://bucket/{part}" for part in data.split(","))
        prompts.check_name(remote)
        here, there = loaded(data), loaded(remote)
        assert here.drop("source").equals(there.drop("source"), null_equal=True)
        if ":" in here["source"][0]:  # several files
            assert here["source"].to_list() == there["source"].to_list()
    for data, said in (
        ("s3://bucket/no", "--data s3://bucket/no: there is no such file or folder"),
        ("s3://bucket/data/*.csv", "--data s3://bucket/data/*.csv: no file matches"),
        (
            "s3://bucket/data/no.jsonl.gz",
            "--data: cannot read s3://bucket/data/no.jsonl.gz: it does not exist",
        ),
    ):
        assert said in refusal(data)
