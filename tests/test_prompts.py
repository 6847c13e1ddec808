"""The prompt sources: the real loading code on small local data of the same columns."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from exptilt import prompts

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


def texts(data: str, column: str = "prompt") -> list[str]:
    return prompts.load(data, column)["prompt"].to_list()


def test_harmless_is_the_first_question_of_chosen(hub):
    table = prompts.load("Anthropic-harmless", "prompt")
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
    assert prompts.load(str(path), "prompt")["prompt_id"].n_unique() == 5
    assert prompts.short_name(str(path)) == "a"


def test_ids_do_not_depend_on_the_range():
    everything = prompts.load("demo", "prompt")
    assert everything.height >= 200
    assert everything["prompt_id"].n_unique() == everything.height
