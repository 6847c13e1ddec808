"""--file of many kinds: several files, patterns, folders, compressed ones; rows that hold no texts; and each
record's number comes back to its own place."""

import csv
import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from test_records import rows_of, scored

import exptilt
from exptilt import local_run
from exptilt.config.exploration import Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.validation import build
from exptilt.errors import ConfigError, ExptiltError, PromptError
from exptilt.planning import score_file
from exptilt.storage import filesystem, keys

TURNS = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
TOOL = {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}
IMAGE = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "ab"}]}


def rows(first: int, count: int) -> list[dict]:
    return [{"prompt": f"p{k % 3}", "generated": f"p{k % 3} {'b' * k}"} for k in range(first, first + count)]


def write(path: Path, records: list[dict]) -> str:
    path.parent.mkdir(exist_ok=True)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        path.write_bytes(filesystem.parquet_bytes(pl.DataFrame(records, infer_schema_length=None)))
        return str(path)
    if name.endswith(".csv"):
        text = pl.DataFrame(records).write_csv()
    else:
        text = "\n".join(map(json.dumps, records)) if name.endswith(".jsonl") else json.dumps(records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.fixture
def config(tmp_path, rewards_file):
    """Make a configuration that scores the length of files in a folder."""
    common = {"value": f"{rewards_file}:length", "save_directory": str(tmp_path / "results")}
    return lambda file, **more: build(Scoring, {"file": file, **common, **more})


def lengths(records: list[dict]) -> list[float]:
    return [float(len(row["generated"]) - len(row["prompt"])) for row in records]


@pytest.mark.parametrize("way", ["a comma", "a pattern", "a folder", "paths"])
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".csv", ".jsonl.gz", ".csv.gz"])
def test_every_file_gets_its_own_numbers_in_its_own_place(tmp_path, config, monkeypatch, way, ending):
    monkeypatch.setattr(keys, "BLOCK", 2)
    parts = [rows(0, 3), rows(3, 1), rows(4, 5)]
    paths = [write(tmp_path / "in" / f"{k}{ending}", part) for k, part in enumerate(parts)]
    file = {
        "a comma": ",".join(paths),
        "a pattern": f"{tmp_path}/in/*{ending}",
        "a folder": f"{tmp_path}/in",
        "paths": paths,
    }
    result = scored(config(file[way]))
    found = [rows_of(Path(path)) for path in paths]
    assert [[float(row["length"]) for row in part] for part in found] == list(map(lengths, parts))
    assert [[{**row, "length": 0} for row in part] for part in found] == [
        [{**row, "length": 0} for row in part] for part in parts
    ]
    assert result.records == 9
    with pytest.raises(ConfigError, match=rf"^--file {paths[0]} has 'length' already: give an --output"):
        score_file.prepare(config(file[way]))


@pytest.mark.parametrize("output", [".jsonl", ".json", ".parquet", ".csv", ".jsonl.zst"])
def test_files_of_all_kinds_become_one(tmp_path, config, output):
    kinds = [".csv"] if output == ".csv" else [".jsonl", ".json.gz", ".parquet", ".csv"]
    paths = [write(tmp_path / f"a{k}{kind}", rows(2 * k, 2)) for k, kind in enumerate(kinds * 2)]
    target = tmp_path / f"all{output}"
    scored(config(",".join(paths), output=str(target)))
    records = rows(0, 2 * len(paths))
    found = rows_of(target)
    assert [float(row.pop("length")) for row in found] == lengths(records)
    assert found == records
    assert rows_of(Path(paths[0])) == rows(0, 2)


def test_a_scored_csv_file_is_a_pool_and_several_are(tmp_path, config):
    paths = [write(tmp_path / f"{k}.csv", rows(8 * k, 8)) for k in range(2)]
    scored(config(",".join(paths)))
    common = {"value": "length", "lam": "0.1", "save_directory": str(tmp_path / "out")}
    one = local_run.prepare(build(Sweep, {"file": ",".join(paths), **common}))
    assert (one.n_prompts, one.recipe.config.nsamples) == (3, 6)
    assert one.recipe.rewards[0].model.name == "0-and-1-more"


def test_the_api_takes_paths_and_reads_all_of_them(tmp_path, rewards_file):
    paths = [Path(write(tmp_path / f"{k}.jsonl", rows(k, 2))) for k in range(2)]
    asked = {"value": f"{rewards_file}:length", "save_directory": tmp_path / "results"}
    assert exptilt.score(file=paths, **asked).records["length"].to_list() == [1, 2, 2, 3]


REFUSED = {
    "in/*.jsonl": "--file in/*.jsonl: no file matches",
    "no.jsonl": "--file no.jsonl: there is no such file",
    "a.jsonl,no": "--file no: there is no such file or folder",
    "a.jsonl,a.jsonl": "a.jsonl: the file is there 2 times",
    "empty": "--file empty: the folder holds no file of rows (.json, .jsonl, .csv",
    "a.jsonl,none.jsonl": "--file none.jsonl: it holds no records",
    "notes.txt": "--file notes.txt: must end in .json, .jsonl, .csv, .parquet, or with .gz or .zst",
    "a.jsonl,null.jsonl": "--file null.jsonl: record 1 has a 'prompt' that is missing",
    "a.jsonl,half.jsonl": "--file half.jsonl: record 0 holds half a character (a lone surrogate)",
    "a.jsonl,talk.jsonl": "--file talk.jsonl: record 0 is empty",
    "twice.csv": "--file twice.csv: cannot be read (two columns are called 'prompt')",
    "short.csv": "--file short.csv: cannot be read (line 3 has 1 field, the first line 2)",
    "other.csv,b.csv": "--file b.csv: its columns are not those of other.csv; give an --output of .jsonl",
}


@pytest.mark.parametrize("file", REFUSED)
def test_what_cannot_be_scored_is_named_with_its_file(tmp_path, config, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "empty"):
        Path(name).mkdir()
    write(Path("a.jsonl"), rows(0, 2))
    write(Path("null.jsonl"), [{"prompt": "a", "response": "b"}, {"prompt": None, "response": "b"}])
    write(Path("half.jsonl"), [{"prompt": "\ud83d", "generated": "\ud83d"}])
    write(Path("talk.jsonl"), [{"messages": []}])
    write(Path("b.csv"), rows(0, 2))
    write(Path("other.csv"), [{**row, "n": 1} for row in rows(0, 2)])
    texts = {"none.jsonl": "", "notes.txt": "a\n", "twice.csv": "prompt,prompt,response\na,b,c\n"}
    texts["short.csv"] = "prompt,response\na,b\nc\n"
    for name, text in texts.items():
        Path(name).write_text(text)
    output = {"output": "all.csv"} if "other" in file else {}
    with pytest.raises(ExptiltError) as stopped:
        score_file.prepare(config(file, **output))
    said = str(stopped.value)
    assert "\n" not in said
    assert REFUSED[file] in said


def test_an_output_is_none_of_several_files(tmp_path, config):
    paths = [write(tmp_path / f"{k}.jsonl", rows(k, 2)) for k in range(2)]
    with pytest.raises(ConfigError, match=r"^--output .*1\.jsonl: it is one of the files of --file"):
        score_file.prepare(config(",".join(paths), output=paths[1]))


UNUSABLE = {
    "missing": {"prompt": None, "response": "b"},
    "half a character": {"prompt": "a\ud83d", "response": "b"},
    "empty": {"messages": []},
    "with tools": {"messages": TURNS, "tools": [{"name": "f"}]},
    "with images": {"messages": [IMAGE, TURNS[1]]},
    "with tool calls": {"messages": [TURNS[0], TOOL]},
    "with a system column": {"messages": TURNS, "system": "be brief"},
    "without an answer": {"messages": TURNS[:1]},
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("place", [0, 2])
def test_a_record_without_texts_is_named_or_left_out(tmp_path, config, kind, place):
    good = [{"messages": [{"role": "user", "content": f"a{k}"}, TURNS[1]]} for k in range(3)]
    records = [*good[:place], UNUSABLE[kind], *good[place:]]
    file = write(tmp_path / "a.jsonl", records)
    with pytest.raises(PromptError, match=rf"^--file {file}: record {place} "):
        score_file.prepare(config(file))
    asked = config(file, on_long_prompt="skip")
    assert f"note: 1 record left out: 1 {kind}" in score_file.prepare(asked).opening
    result = scored(asked)
    assert (result.records, result.skipped, result.means["length"].mean) == (3, {kind: 1}, 2)
    assert [row["length"] for row in rows_of(tmp_path / "a.jsonl")] == [
        None if k == place else 2 for k in range(4)
    ]
    assert [{**row, "length": 0} for row in rows_of(tmp_path / "a.jsonl")] == [
        {**row, "length": 0} for row in records
    ]
    sweep = {"file": file, "value": "length", "lam": "1", "save_directory": str(tmp_path / "out")}
    with pytest.raises(PromptError, match=rf"record {place} "):
        local_run.prepare(build(Sweep, sweep))
    assert local_run.prepare(build(Sweep, {**sweep, "on_long_prompt": "skip"})).skipped == {place: kind}


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_a_pair_that_is_left_out_has_null_on_both_sides(tmp_path, config, ending):
    pair = {"prompt": "a", "chosen": "bc", "rejected": "d"}
    records = [pair, {**pair, "prompt": " "}, pair]
    file = tmp_path / f"a{ending}"
    result = scored(config(write(file, records), on_long_prompt="skip"))
    found = [(row["length_chosen"] or None, row["length_rejected"] or None) for row in rows_of(file)]
    assert [tuple(map(float, filter(None, both))) for both in found] == [(2, 1), (), (2, 1)]
    assert (result.records, result.preferences["length"].share.mean) == (2, 1)


def test_files_of_nothing_usable_are_refused(tmp_path, config):
    file = write(tmp_path / "a.jsonl", [UNUSABLE["missing"], UNUSABLE["empty"], UNUSABLE["missing"]])
    said = r"a\.jsonl: every record is left out: 2 missing, 1 empty$"
    with pytest.raises(ConfigError, match=said):
        score_file.prepare(config(file, on_long_prompt="skip"))
    asked = {"file": file, "value": "length", "lam": "1", "save_directory": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=said):
        local_run.prepare(build(Sweep, {**asked, "on_long_prompt": "skip"}))


def test_csv_cells_that_hold_anything_come_back(tmp_path, config):
    file = tmp_path / "a.csv"
    cells = ['a,"b"', "line\nline", "ü\r\n", "", "\u2028"]
    with file.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["prompt", "response", "note"], *(["p", cell, cell] for cell in cells)])
    scored(config(str(file)))
    assert [(row["response"], row["note"]) for row in rows_of(file)] == [(cell, cell) for cell in cells]
