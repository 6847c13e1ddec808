"""The prompt sources: the real loading code on small local data of the same columns."""

import gzip
import itertools
import json
import tracemalloc
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exptilt.data import parsing, prompts
from exptilt.storage import filesystem, keys, spooled_tables

CHATS = [
    "\n\nHuman: what is up?  \n\nAssistant: Nothing.\n\nHuman: sure?\n\nAssistant: Yes.",
    "\n\nHuman: A second\nline Assistant? \n\nAssistant: No.",
    "\n\nHuman: what is up?  \n\nAssistant: Again.",
]
REVIEWS = [
    "Too short to count.",
    "The film began with a storm and never found its way back to shore.",
    "Extraordinarilylongwordwithoutanyspaceinitssights and then some more",
    *[f"Review number {i} goes on for long enough to be a review." for i in range(1100)],
]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder in which Anthropic/hh-rlhf and stanfordnlp/imdb can be loaded by their names."""
    chats = tmp_path / "Anthropic" / "hh-rlhf" / "harmless-base"
    chats.mkdir(parents=True)
    for split, rows in (("test", CHATS), ("train", ["\n\nHuman: train\n\nAssistant: no"])):
        lines = "\n".join(json.dumps({"chosen": text, "rejected": text}) for text in rows)
        with gzip.open(chats / f"{split}.jsonl.gz", "wt") as f:
            f.write(lines)
    films = tmp_path / "stanfordnlp" / "imdb" / "plain_text"
    films.mkdir(parents=True)
    table = pl.DataFrame({"text": REVIEWS, "label": [0] * len(REVIEWS)})
    table.write_parquet(films / "train-00000-of-00001.parquet")
    own = tmp_path / "lab" / "asks"
    own.mkdir(parents=True)
    (own / "train.jsonl").write_text('{"q": "one"}\n{"q": "two"}\n')
    (own / "test.jsonl").write_text('{"q": "three"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def loaded(data: str, column: str = "prompt") -> pl.DataFrame:
    return pl.concat(prompts.tables(data, column))


def texts(data: str, column: str = "prompt") -> list[str]:
    return loaded(data, column)["prompt"].to_list()


def test_harmless_is_the_first_question_of_chosen(hub):
    table = loaded("Anthropic-harmless")
    assert table["prompt"].to_list() == ["what is up?", "A second\nline Assistant?", "what is up?"]
    assert table["prompt_index"].to_list() == [0, 1, 2]
    assert table["prompt_id"].n_unique() == 3
    assert set(table["source"]) == {"Anthropic-harmless"}


def test_imdb_is_a_thousand_reviews_cut_at_a_word(hub):
    found = texts("Imdb")
    assert len(found) == 1000
    assert REVIEWS[1].startswith(found[0])
    assert 20 <= len(found[1]) <= 30
    for text, review in zip(found, REVIEWS[1:], strict=False):
        assert review.startswith(text)
        assert len(text) <= 30
        assert " " not in review[: len(text) + 1][len(text) :] or review[len(text)] == " "
    assert len({len(text) for text in found}) > 3
    assert texts("Imdb") == found


def test_any_data_set_by_name_and_split(hub):
    assert texts("lab/asks", "q") == ["one", "two"]
    assert texts("lab/asks:test", "q") == ["three"]
    with pytest.raises(ValueError, match="no column 'prompt'; its columns are q"):
        texts("lab/asks")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet", "a.txt"])
def test_files_keep_every_prompt_in_order(tmp_path, name):
    rows = ["Zwölf Boxkämpfer", "שלום, עולם", "🙂 and “quotes”, commas", "one", "one"]
    path = tmp_path / name
    match path.suffix:
        case ".json":
            path.write_text(json.dumps([{"prompt": r, "extra": i} for i, r in enumerate(rows)]))
        case ".jsonl":
            path.write_text("\n".join(json.dumps({"prompt": r}) for r in rows) + "\n")
        case ".csv":
            pl.DataFrame({"prompt": rows}).write_csv(path)
        case ".parquet":
            pl.DataFrame({"prompt": rows}).write_parquet(path)
        case ".txt":
            path.write_text("\n".join(rows) + "\n")
    assert texts(str(path)) == rows
    assert loaded(str(path))["prompt_id"].n_unique() == 5
    assert prompts.short_name(str(path)) == "a"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            b'\xef\xbb\xbfprompt,n\r\n"two\nlines, ""quoted""",1\r\nplain,2\r\n',
            ['two\nlines, "quoted"', "plain"],
        ),
        (b"n,prompt\n1,a\n\n2,b", ["a", "b"]),
        (b"prompt\n" + b"x" * 200_000, ["x" * 200_000]),
    ],
    ids=["a byte order mark and quotes", "an empty line", "a long field"],
)
def test_csv_as_spreadsheets_write_it(tmp_path, content, found):
    (tmp_path / "a.csv").write_bytes(content)
    assert texts(str(tmp_path / "a.csv")) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"n,prompt\n1,a\n2\n", "line 3 has 1 field, the first line 2"),
        (b"prompt\na\n\nb\n", "prompt 1 is empty"),
        (b'prompt\n"a\n', "cannot be read"),
    ],
)
def test_csv_of_another_shape_is_refused(tmp_path, content, said):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        texts(str(tmp_path / "a.csv"))


WRITERS = {
    "a.txt": lambda rows: "\n".join(rows).encode(),
    "a.jsonl": lambda rows: "\n".join(json.dumps({"prompt": r}) for r in rows).encode(),
    "a.jsonl.gz": lambda rows: gzip.compress(WRITERS["a.jsonl"](rows), 1),
    "a.jsonl.zst": lambda rows: pa.Codec("zstd").compress(WRITERS["a.jsonl"](rows), asbytes=True),
    "a.csv": lambda rows: pl.DataFrame({"prompt": rows}).write_csv().encode(),
    "a.parquet": lambda rows: filesystem.parquet_bytes(pl.DataFrame({"prompt": rows})),
}


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_the_prompts(tmp_path, monkeypatch, name):
    monkeypatch.setattr(keys, "BLOCK", 500)
    monkeypatch.setattr(parsing, "ROWS", 500)

    def peak(count: int) -> int:
        path = tmp_path / name
        path.write_bytes(WRITERS[name]([f"Prompt {i} asks for {'more ' * 40}" for i in range(count)]))
        tracemalloc.start()
        assert sum(table.height for table in prompts.tables(str(path), "prompt")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(500)  # what is imported
    few, many = peak(1000), peak(8000)
    assert many < few + 7000 * 64  # bytes; a text has 230, and is held with its id


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(1, 41))
def test_ids_do_not_depend_on_blocks_and_are_by_text_and_repetition(rows, size):
    blocks = [rows[i : i + size] for i in range(0, len(rows), size)]
    found = [name for _, names in keys.with_ids(blocks, str) for name in names]
    assert found == [keys.prompt_id(text, rows[:i].count(text)) for i, text in enumerate(rows)]
    assert len(set(found)) == len(rows)


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 20))
def test_a_spool_gives_its_rows_in_any_size(heights, rows):
    kept, whole = spooled_tables.Spool(), pl.int_range(sum(heights), eager=True)
    for end, height in zip(itertools.accumulate(heights), heights, strict=True):
        kept.append(pl.DataFrame({"a": whole[end - height : end], "b": "x"}))
    asked = [min(rows, len(whole) - start) for start in range(0, len(whole), rows)]
    parts = [part["a"].to_list() for part in kept.parts(asked)]
    assert list(itertools.chain(*parts)) == whole.to_list()
    assert [len(part) for part in parts] == asked
    assert [table.columns for table in kept.tables("b")] == [["b"]] * len(heights)
    assert kept.height == len(whole)


def test_ids_do_not_depend_on_the_range():
    everything = loaded("demo")
    assert everything.height >= 200
    assert everything["prompt_id"].n_unique() == everything.height
