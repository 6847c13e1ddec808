"""Values for other people's files: every other column keeps its type and its values, or nothing is scored."""

import datetime
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from test_hostile import JSON, quick
from test_records import scored

from exptilt.config.scoring import Scoring
from exptilt.data import added_columns, parsing, records
from exptilt.errors import ConfigError, ExptiltError, StorageError
from exptilt.planning import score_file
from exptilt.storage import filesystem, keys

TEXTS = ["a", None, "c"]
BYTES = [b"\xff", None, b""]
MONEY = [Decimal("1.23"), None, Decimal("-9.99")]
INNER = pa.struct([("c", pa.float32())])
NESTED = pa.struct([pa.field("a", pa.int8(), nullable=False), ("b", pa.list_(INNER))])
ORDERED = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["x", "y"], ordered=True)
COLUMNS = {
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "nested map": pa.array([[("a", [{"c": 1}])], None, []], pa.map_(pa.string(), pa.list_(INNER))),
    **{f"timestamp {unit}": pa.array([1, -2, None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "with a zone": pa.array([1, -2, None], pa.timestamp("ns", "Europe/Berlin")),
    **{f"duration {unit}": pa.array([1, -2, None], pa.duration(unit)) for unit in ("s", "us", "ns")},
    **{f"int{size}": pa.array([1, None, -(2 ** (size - 1))], f"int{size}") for size in (8, 16, 32, 64)},
    **{f"uint{size}": pa.array([1, None, 2**size - 1], f"uint{size}") for size in (8, 16, 32, 64)},
    "float16": pa.array(np.array([1.5, math.nan, -0.0], np.float16)),
    "float32": pa.array([0.1, math.nan, -math.inf], pa.float32()),
    "float64": pa.array([0.1, math.nan, None]),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "small dictionary": ORDERED,
    "list": pa.array([["a"], None, []], pa.list_(pa.field("item", pa.string(), nullable=False))),
    "fixed list": pa.array([[1, None], None, [3, 4]], pa.list_(pa.int16(), 2)),
    "large list": pa.array([[1], None, []], pa.large_list(pa.int16())),
    "list view": pa.array([[1], None, []], pa.list_view(pa.int16())),
    "string": pa.array(TEXTS),
    "large string": pa.array(TEXTS, pa.large_string()),
    "string view": pa.array(TEXTS, pa.string_view()),
    "binary": pa.array(BYTES),
    "large binary": pa.array(BYTES, pa.large_binary()),
    "binary view": pa.array(BYTES, pa.binary_view()),
    "fixed binary": pa.array([b"ab", None, b"\xff\x00"], pa.binary(2)),
    "decimal32": pa.array(MONEY, pa.decimal32(5, 2)),
    "decimal64": pa.array(MONEY, pa.decimal64(5, 2)),
    "decimal128": pa.array(MONEY, pa.decimal128(5, 2)),
    "decimal256": pa.array(MONEY, pa.decimal256(50, 2)),
    "struct": pa.array([{"a": 1, "b": None}, None, {"a": 2, "b": [{"c": 0.1}]}], NESTED),
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    "date": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
    "time s": pa.array([1, None, 2], pa.time32("s")),
    "time ns": pa.array([1, None, 2], pa.time64("ns")),
    "uuid": pa.array([b"a" * 16, None, b"b" * 16], pa.uuid()),
    "json": pa.array(["{}", None, "[]"], pa.json_()),
    "a.b": pa.array(TEXTS),
}  # fmt: skip
PLAIN = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "null", "a.b"}
PLAIN |= {"dictionary", "small dictionary", "list", "fixed list", "large list", "list view", "struct"}
PLAIN |= {"string", "large string", "string view"}
STRING = pa.string()


def table(names=tuple(COLUMNS), text=STRING) -> pa.Table:
    """Three records with these columns between the prompt and its text, metadata everywhere."""
    columns = {"prompt": pa.array(["p", "p", "q"]).cast(text)} | {n: COLUMNS[n] for n in names}
    columns["generated"] = pa.array(["pb", "p", "q bb"]).cast(text)
    fields = [
        pa.field(name, column.type, metadata={"unit": name, "PARQUET:field_id": str(7 + i)})
        for i, (name, column) in enumerate(columns.items())
    ]
    return pa.table([*columns.values()], schema=pa.schema(fields, metadata={"made by": "others"}))


def score(file: Path, reward: str, output: Path | str = "", **asked) -> None:
    scored(
        Scoring(
            file=str(file), output=str(output), value=(reward,), save_directory=f"{file.parent}/r", **asked
        )
    )


def refusal(file: Path, output: Path | str = "", value: str = "diversity") -> str:
    """The one line with which a file is refused before anything is scored."""
    before = file.read_bytes()
    asked = Scoring(file=str(file), output=str(output), value=(value,), save_directory=f"{file.parent}/r")
    with pytest.raises(ExptiltError) as stopped:
        score_file.prepare(asked)
    assert file.read_bytes() == before
    assert "\n" not in str(stopped.value)
    return str(stopped.value)


@pytest.mark.parametrize("rows", [1, 2, 10_000])
@pytest.mark.parametrize("output", ["", "b.parquet"])
def test_parquet_columns_of_every_type_stay_as_they_are(tmp_path, monkeypatch, rewards_file, rows, output):
    monkeypatch.setattr(parsing, "ROWS", rows)
    file = tmp_path / "a.parquet"
    parquet.write_table(table(), file, row_group_size=2)
    before = parquet.read_table(file)
    score(file, f"{rewards_file}:bees", tmp_path / output if output else "")
    after = parquet.read_table(tmp_path / (output or "a.parquet"))
    assert after["bees"].to_pylist() == [1.0, 0.0, 1.0]
    rest = after.drop_columns("bees")
    assert rest.schema.equals(before.schema, check_metadata=True)
    for name in before.column_names:
        assert repr(rest[name].to_pylist()) == repr(before[name].to_pylist())
    assert after.column_names == [*before.column_names, "bees"]


TEXT_TYPES = [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("text", TEXT_TYPES, ids=str)
def test_prompts_may_be_of_any_type_of_text(tmp_path, rewards_file, text):
    file = tmp_path / "a.parquet"
    parquet.write_table(table((), text), file)
    kept = parquet.read_schema(file)
    score(file, f"{rewards_file}:bees")
    found = parquet.read_table(file)
    assert found["bees"].to_pylist() == [1.0, 0.0, 1.0]
    assert found.schema.field("prompt").equals(kept.field("prompt"), check_metadata=True)


ODD = (
    '{"z": -0.0, "prompt": "p", "big": 1' + "0" * 99 + ', "far": 1e400, "E": 1E5, "fine": 1.0000000000000001,'
    ' "half": "\\udcb2\\ud83d", "whole": "\\ud83d\\ude42 🙂 \\u00e9\\/", "line": "\u2028\x7f", "none": null,'
    ' "deep": [[{"": [true, {}, []]}]],   "generated": "p b", "a": -0}'
)  # fmt: skip


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_records_keep_their_own_text(tmp_path, rewards_file, ending, mark):
    file = tmp_path / f"a{ending}"
    file.write_text(
        mark + (f"[ {ODD} ,\r\n{ODD}]" if ending == ".json" else f"{ODD}\r\n\r\n{ODD}"), newline=""
    )
    score(file, f"{rewards_file}:bees")
    expected = ODD[:-1] + ', "bees": 1.0}'
    written = f"[\n    {expected},\n    {expected}\n]\n" if ending == ".json" else f"{expected}\n{expected}\n"
    assert file.read_bytes().decode() == written


def test_json_is_spaced_as_it_was_and_a_line_is_a_line(tmp_path, rewards_file):
    file, lines = tmp_path / "a.json", tmp_path / "b.jsonl"
    file.write_text(json.dumps([{"prompt": "p", "x": {"y": [1]}, "generated": "p\nb"}], indent=4))
    score(file, f"{rewards_file}:bees")
    expected = {"prompt": "p", "x": {"y": [1]}, "generated": "p\nb", "bees": 1.0}
    assert file.read_text() == json.dumps([expected], indent=4) + "\n"
    score(file, f"two={rewards_file}:bees", lines)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [{**expected, "two": 1.0}]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("written", [".json", ".jsonl", ".parquet"])
def test_a_value_that_is_there_is_replaced_in_its_place(tmp_path, rewards_file, ending, written):
    file, target = tmp_path / f"a{ending}", tmp_path / f"b{written}"
    rows = [{"prompt": "p", "bees": 7.5, "x": 1, "generated": f"p{rest}"} for rest in ("b", "", "bb")]
    if ending == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        text = "\n".join(map(json.dumps, rows)) if ending == ".jsonl" else json.dumps(rows)
        file.write_text(text.replace('"bees": 7.5', '"\\u0062ees" : {"old": [7.5]}'))
    assert "has 'bees' already: give an --output, or NAME=VALUE" in refusal(
        file, value=f"{rewards_file}:bees"
    )
    score(file, f"{rewards_file}:bees", target)
    found = rows_of(target)
    assert found == [{**row, "bees": number} for row, number in zip(rows, (1.0, 0.0, 1.0), strict=True)]
    assert [list(row) for row in found] == [list(row) for row in rows]


def rows_of(file: Path) -> list:
    match file.suffix:
        case ".parquet":
            return parquet.read_table(file).to_pylist()
        case ".jsonl":
            return [json.loads(line) for line in file.read_text().splitlines()]
    return json.loads(file.read_text())


NO_JSON = [
    ("NaN", "record 1: column 'x': NaN is not JSON"),
    ('{"y": [Infinity]}', "record 1: column 'x': Infinity is not JSON"),
    ('{"y": 1, "y": 2}', "record 1: column 'x': the key 'y' is there twice"),
    ("1" + "0" * 5000, "record 1: column 'x': Exceeds the limit"),
]
NO_PARQUET = [
    ("1e400", "record 1: column 'x': 1e400 is beyond what 64 bits hold"),
    ("1e-999", "record 1: column 'x': 1e-999 is beyond"),
    ('"\\udcb2"', "record 1: column 'x': a column of Parquet cannot hold it (half a character"),
    ('{"\\udcb2": 1}', "record 1: column 'x': a column of Parquet cannot hold it (half a character"),
    ("9223372036854775808", "record 1: column 'x': a column of Parquet cannot hold it"),
    ('"text"', "record 1: column 'x': a column of Parquet cannot hold it"),
    ("true", "record 1: column 'x': a column of Parquet cannot hold it"),
    ("[1]", "record 1: column 'x': a column of Parquet cannot hold it"),
]


@pytest.mark.parametrize("block", [1, 10_000])
@pytest.mark.parametrize(("value", "said"), [*NO_JSON, *NO_PARQUET])
def test_what_cannot_be_written_is_refused_before_scoring(tmp_path, monkeypatch, value, said, block):
    monkeypatch.setattr(keys, "BLOCK", block)
    rows = ['{"prompt": "p", "x": 1, "generated": "p"}', f'{{"prompt": "p", "x": {value}, "generated": "p"}}']
    for ending, text in ((".jsonl", "\n".join(rows)), (".json", f"[{','.join(rows)}]")):
        file = tmp_path / f"a{ending}"
        file.write_text(text)
        assert said in refusal(file, tmp_path / "b.parquet")
        if (value, said) in NO_JSON:
            assert said in refusal(file)


MIXED = [
    (["9007199254740993", "0.5"], "record 0: column 'x': it would be another value in Parquet's double"),
    (["null", "{}"], "record 1: column 'x': it would be another value in Parquet's struct<>"),
    (['{"a": [{}]}', "null"], "record 0: column 'x': it would be another value"),
]


@pytest.mark.parametrize(("values", "said"), MIXED)
def test_values_that_a_common_type_would_change_are_refused(tmp_path, values, said):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(f'{{"prompt": "p", "x": {value}, "generated": "p"}}' for value in values))
    assert said in refusal(file, tmp_path / "b.parquet")


@pytest.mark.parametrize("name", COLUMNS)
def test_parquet_goes_to_json_as_it_is_or_is_refused_by_record_and_column(tmp_path, rewards_file, name):
    file, target = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    parquet.write_table(table((name,)), file)
    if name in PLAIN:
        score(file, f"{rewards_file}:bees", target)
        assert [{**row, "bees": 0} for row in parquet.read_table(file).to_pylist()] == [
            {**row, "bees": 0} for row in rows_of(target)
        ]
        return
    at = 1 if "float" in name else 0
    assert f"record {at}: column {name!r}: JSON has n" in refusal(file, target)
    assert not target.exists()


FLAT = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@quick
@given(st.lists(FLAT, min_size=1, max_size=4), st.integers(1, 3))
def test_any_records_come_back_or_are_refused(tmp_path, monkeypatch, rests, block):
    monkeypatch.setattr(keys, "BLOCK", block)
    rows = [{"prompt": "p", **rest, "generated": "p"} for rest in rests]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    is_json = finite(rows)
    for ending in (".json", ".jsonl", ".parquet"):
        target = tmp_path / f"b{ending}"
        target.unlink(missing_ok=True)
        try:
            added_columns.write([str(file)], str(target), lambda first, last: {"new": [0.5] * (last - first)})
        except ConfigError:
            assert not target.exists()
            assert ending == ".parquet" or not is_json
            continue
        expected = [{**row, "new": 0.5} for row in rows]
        assert without_nulls(rows_of(target)) == without_nulls(expected if is_json else None)


def finite(rows: list) -> bool:
    try:
        return bool(json.dumps(rows, allow_nan=False))
    except ValueError:
        return False


def without_nulls(value):
    """`value` without the keys that are null, which a table cannot tell from missing ones."""
    match value:
        case dict():
            return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [without_nulls(inner) for inner in value]
    return value


PLACES = [
    ("b.csv", "--output b.csv: only .csv files become one, not "),
    ("b.txt", "--output b.txt: must end in .json, .jsonl, .csv, .parquet"),
    ("folder.json", "it is a folder"),
    ("a.json/b.json", "cannot write"),
]


@pytest.mark.parametrize(("output", "said"), PLACES)
def test_a_place_that_cannot_be_written_is_named_before_scoring(tmp_path, monkeypatch, output, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "a.json").write_text('[{"prompt": "p", "generated": "p"}]')
    assert said in refusal(tmp_path / "a.json", output)


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path, rewards_file):
    file, link = tmp_path / "real.json", tmp_path / "a.json"
    file.write_text('[{"prompt": "p", "generated": "p"}]')
    file.chmod(0o600)
    link.symlink_to(file)
    score(link, f"{rewards_file}:bees")
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())[0]["bees"] == 0.0


def test_two_columns_of_one_name_are_refused_where_they_are_read_and_kept_elsewhere(tmp_path, rewards_file):
    file = tmp_path / "a.parquet"
    texts = pa.array(["p", "pb"])
    parquet.write_table(pa.table([texts, texts, texts, texts], names=["prompt", "generated", "x", "x"]), file)
    score(file, f"{rewards_file}:bees")
    assert parquet.read_schema(file).names == ["prompt", "generated", "x", "x", "bees"]
    assert "two columns called 'x'" in refusal(file, tmp_path / "b.json")
    parquet.write_table(pa.table([texts, texts, texts], names=["prompt", "prompt", "generated"]), file)
    assert "two columns are called 'prompt'" in refusal(file)


def test_old_timestamps_beyond_their_type_are_refused(tmp_path):
    file = tmp_path / "a.parquet"
    made = pa.array([datetime.datetime(2020, 1, 1), datetime.datetime(1, 1, 1)], pa.timestamp("us"))
    whole = pa.table({"prompt": ["p", "p"], "generated": ["p", "p"], "made": made})
    parquet.write_table(whole, file, use_deprecated_int96_timestamps=True)
    assert "out of bounds timestamp" in refusal(file)
    parquet.write_table(whole[:1], file, use_deprecated_int96_timestamps=True)
    score_file.prepare(Scoring(file=str(file), value=("diversity",), save_directory=f"{tmp_path}/r"))


def test_no_bare_nan_is_written(tmp_path):
    refused = pytest.raises(StorageError, match="record 1: column 'x': JSON has no NaN")
    with refused, filesystem.writing(f"{tmp_path}/a.json") as f:
        records.write_json(f, [{"x": 1.0}, {"x": math.nan}])
    assert not (tmp_path / "a.json").exists()
