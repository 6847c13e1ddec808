"""Records whose completion has a column of its own, or is the last turn of messages, are scored, too."""

import json
from pathlib import Path

import pytest

import exptilt
from exptilt.errors import PromptError

OWN = "def size(xs, ys): return [len(x) + 100.0 * len(y) for x, y in zip(xs, ys)]\n"
TURNS = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "de"}]


@pytest.fixture
def scored(tmp_path):
    (tmp_path / "own.py").write_text(OWN)

    def score(*records: dict) -> list[dict]:
        (tmp_path / "r.json").write_text(json.dumps(records))
        value = f"{tmp_path}/own.py:size"
        exptilt.score(file=str(tmp_path / "r.json"), value=value, save_directory=str(tmp_path / "results"))
        return json.loads(Path(tmp_path, "r.json").read_text())

    return score


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "abc", "completion": "de"},
        {"prompt": "abc", "response": "de", "other": [1, None]},
        {"prompt": "abc", "generated": "abcde", "completion": "unlike"},
        {"messages": TURNS},
        {"prompt": TURNS[:1], "completion": "de"},
        {"conversations": [{"from": "human", "value": "abc"}, {"from": "gpt", "value": "de"}]},
        {"prompt": "as people read it", "completion": "de", "messages": TURNS},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt": "abc", "response": TURNS[1:]},
        {"completion": TURNS},
        {"prompt": TURNS[:1], "completion": TURNS},
    ],
)
def test_prompt_and_completion_are_found(scored, record):
    assert scored(record) == [{**record, "size": 203.0}]


def test_a_completion_may_have_no_characters(scored):
    (record,) = scored({"prompt": "abc", "completion": ""})
    assert record["size"] == 3


def test_a_conversation_is_a_transcript_to_functions(scored):
    talk = [TURNS[0], TURNS[1], {"role": "user", "content": "f"}, {"role": "assistant", "content": "g"}]
    (record,) = scored({"messages": talk})
    assert record["size"] == len("abc\n\nAssistant: de\n\nHuman: f") + 100


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"messages": TURNS[:1]}, "record 0 has messages that do not end with an assistant's turn"),
        ({"prompt": "abc"}, "record 0 needs 'prompt' and 'generated', a text that begins with it; or beside"),
        ({"prompt": None, "completion": "x"}, "record 0 has a 'prompt' that is missing"),
        ({"prompt": "abc", "completion": 3}, "record 0 has a 'completion' that is not text but int"),
        ({"prompt": "abc", "completion": []}, "record 0 has a 'completion' that is empty"),
        ({"prompt": "abc", "completion": TURNS[:1]}, "has a 'completion' that ends with the user's turn"),
        ({"completion": TURNS[1:]}, "record 0 has a 'prompt' that is missing"),
        ({"prompt": TURNS, "completion": TURNS[1:]}, "has a 'prompt' that ends with the assistant's turn"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:] + TURNS}, "has in 'completion' neither one"),
    ],
)
def test_what_has_no_completion_is_named(scored, record, said):
    with pytest.raises(PromptError, match=said):
        scored(record)


def test_what_a_run_of_conversations_writes_is_scored_again(tmp_path, scored):
    from test_conversations import chat_model

    settings = {
        "basemodel": chat_model(tmp_path / "m"),
        "max_new_tokens": 3,
        "save_directory": str(tmp_path / "o"),
    }
    drawn = exptilt.original(data=[TURNS[:1]], **settings)
    rows = json.loads(Path(drawn.summary.json).read_text())
    (record,) = scored(*rows)
    assert record["size"] == 3 + 100 * len(rows[0]["completion"])
