"""Files of records: read and written piece by piece, scored, and whole or refused."""

import gc
import io
import json
import random
import tracemalloc
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import JSON, quick

from exptilt.config.scoring import Scoring
from exptilt.data import parsing, record_files
from exptilt.errors import StorageError
from exptilt.outputs import scores
from exptilt.planning import score_file
from exptilt.reports.scores import Scores
from exptilt.stages import score
from exptilt.storage import filesystem, keys

ENDINGS = [".json", ".jsonl", ".parquet"]


def items(data: bytes) -> list | None:
    try:
        return list(parsing.json_items(io.BytesIO(data)))
    except ValueError:
        return None


def loaded(data: bytes) -> list | None:
    try:
        value = json.loads(data.decode())
    except ValueError:
        return None
    return value if isinstance(value, list) else None


@quick
@given(st.lists(JSON), st.sampled_from([1, 2, 5, 64, 2**20]), st.booleans(), st.integers(0))
def test_an_array_read_piece_by_piece_is_the_array_read_whole(monkeypatch, value, size, plain, seed):
    monkeypatch.setattr(parsing, "CHARACTERS", size)
    data = bytearray(json.dumps(value, ensure_ascii=plain, indent=seed % 3 or None).encode())
    assert repr(items(bytes(data))) == repr(loaded(bytes(data)))
    dice = random.Random(seed)
    for _ in range(1 + seed % 3):
        data[dice.randrange(len(data))] = dice.choice(b'[]{},:"0 a\xc3')
    assert repr(items(bytes(data))) == repr(loaded(bytes(data)))


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(1, 41))
def test_places_are_by_first_appearance_and_repetitions_are_counted(names, size):
    seen, found = keys.Seen(), []
    prompt_ids = [keys.prompt_id(name) for name in names]
    for i in range(0, len(names), size):
        places, repetitions = seen.enter(prompt_ids[i : i + size])
        found += zip(places.tolist(), repetitions.tolist(), strict=True)
    order = list(dict.fromkeys(names))
    assert found == [(order.index(name), names[:i].count(name)) for i, name in enumerate(names)]
    assert len(seen) == len(order)


SCATTERED = [
    {"prompt": f"p{k % 5}", "generated": f"p{k % 5} {'b' * (k % 3)}{'x' * k}", "n": k if k > 4 else None}
    for k in [3, 0, 8, 1, 13, 2, 7, 6, 10, 4, 12, 5, 11, 9]
]


def write(path: Path, rows: list) -> None:
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case _:
            path.write_bytes(filesystem.parquet_bytes(pl.DataFrame(rows, infer_schema_length=None)))


def rows_of(path: Path) -> list:
    return [row for block in record_files.blocks(str(path)) for row in block.records]


def scored(config: Scoring) -> Scores:
    plan = score_file.prepare(config)
    return scores.save(plan, [score(plan.workspace, s, spec) for s in plan.shards for spec in plan.rewards])


@pytest.mark.parametrize("block", [1, 3, 10_000])
@pytest.mark.parametrize(("ending", "written"), [*zip(ENDINGS, ENDINGS, strict=True), (".json", ".parquet")])
def test_scattered_records_get_their_own_values(tmp_path, monkeypatch, rewards_file, block, ending, written):
    monkeypatch.setattr(keys, "BLOCK", block)
    monkeypatch.setattr(parsing, "ROWS", block)
    file, target = tmp_path / f"a{ending}", tmp_path / f"b{written}"
    write(file, SCATTERED)
    values = (f"{rewards_file}:bees", f"long={rewards_file}:length")
    asked = {"value": values, "save_directory": str(tmp_path / "results")}
    result = scored(Scoring(file=str(file), output=str(target), **asked))
    rests = [row["generated"].removeprefix(row["prompt"]) for row in SCATTERED]
    expected = [
        {**row, "bees": float("b" in rest), "long": float(len(rest))}
        for row, rest in zip(SCATTERED, rests, strict=True)
    ]
    assert rows_of(target) == expected
    assert rows_of(file) == SCATTERED
    assert result.means["long"].mean == pytest.approx(sum(map(len, rests)) / len(rests))
    assert (result.records, result.shards) == (len(SCATTERED), 1)


def test_many_scattered_records_get_theirs_in_every_shard(tmp_path, rewards_file):
    rows = [{"prompt": f"p{k % 70}", "generated": f"p{k % 70} {k}"} for k in range(211)]
    write(tmp_path / "a.json", rows)
    asked = {
        "value": (f"{rewards_file}:length",),
        "shard_size": 32,
        "save_directory": str(tmp_path / "results"),
    }
    result = scored(Scoring(file=str(tmp_path / "a.json"), **asked))
    assert result.shards == 3
    assert [row["length"] for row in rows_of(tmp_path / "a.json")] == [
        float(len(f" {k}")) for k in range(211)
    ]


def test_a_file_that_changed_meanwhile_is_left_as_it_is(tmp_path, rewards_file):
    file = tmp_path / "a.json"
    write(file, SCATTERED)
    plan = score_file.prepare(
        Scoring(file=str(file), value=(f"{rewards_file}:bees",), save_directory=str(tmp_path / "results"))
    )
    found = [score(plan.workspace, s, spec) for s in plan.shards for spec in plan.rewards]
    write(file, SCATTERED[1:])
    with pytest.raises(StorageError, match=r"a\.json changed while it was scored; run again"):
        scores.save(plan, found)
    assert rows_of(file) == SCATTERED[1:]


@pytest.fixture
def _prompt_collection():
    """Garbage is collected as Python does by default; a run waits for more of it."""
    before = gc.get_threshold()
    gc.set_threshold(700)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_prompt_collection")
@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_records(tmp_path, monkeypatch, rewards_file, ending):
    monkeypatch.setattr(keys, "BLOCK", 200)
    monkeypatch.setattr(parsing, "ROWS", 200)
    monkeypatch.setattr(parsing, "CHARACTERS", 2**16)

    def peak(count: int) -> int:
        file = tmp_path / f"{count}{ending}"
        write(file, [{"prompt": f"{i}", "generated": f"{i} {'more ' * 400}"} for i in range(count)])
        asked = {"value": (f"{rewards_file}:length",), "save_directory": str(tmp_path / f"{count}")}
        tracemalloc.start()
        assert scored(Scoring(file=str(file), shard_size=200, **asked)).records == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100)  # what is imported
    few, many = peak(400), peak(1200)
    assert many < few + 800 * 500  # bytes; a text has 2,000
