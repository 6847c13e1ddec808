"""Preference pairs: both sides are scored by the prompt that they share, or the record is named."""

import json
from pathlib import Path

import polars as pl
import pytest
from test_chat_rewards import TEMPLATE, judge
from test_conversations import TRANSCRIPT

import exptilt
from exptilt import rewards
from exptilt.command import RUNS
from exptilt.config.scoring import Scoring
from exptilt.conversation import Message
from exptilt.data import pairs
from exptilt.engines import registry
from exptilt.errors import ConfigError, ExptiltError, PromptError
from exptilt.local_run import prepare, run
from exptilt.reports.scores import Scores
from exptilt.storage import filesystem

OWN = "def size(xs, ys): return [len(x) + 100.0 * len(y) for x, y in zip(xs, ys)]\n"
USER, GOOD, BAD = (
    {"role": role, "content": text}
    for role, text in (("user", "abc"), ("assistant", "de"), ("assistant", "f"))
)
SYSTEM = {"role": "system", "content": "ab"}
TALK = [SYSTEM, USER, GOOD, {"role": "user", "content": "g"}]
TALK_TEXT = "ab\n\nHuman: abc\n\nAssistant: de\n\nHuman: g"


@pytest.fixture
def config(tmp_path):
    """Make a configuration that scores rows of a file, with some settings changed."""
    (tmp_path / "own.py").write_text(OWN)

    def make(rows: list[dict], ending: str = ".jsonl", **settings) -> Scoring:
        path = tmp_path / f"pairs{ending}"
        if ending == ".parquet":
            path.write_bytes(filesystem.parquet_bytes(pl.DataFrame(rows, infer_schema_length=None)))
        else:
            text = "\n".join(map(json.dumps, rows)) if ending == ".jsonl" else json.dumps(rows)
            path.write_text(text)
        common = {"value": f"{tmp_path}/own.py:size", "save_directory": str(tmp_path / "results")}
        return Scoring(file=str(path), **{**common, **settings})

    return make


def rows_of(path: str) -> list[dict]:
    match Path(path).suffix:
        case ".parquet":
            return pl.read_parquet(path).to_dicts()
        case ".jsonl":
            return [json.loads(line) for line in Path(path).read_text().splitlines()]
    return json.loads(Path(path).read_text())


def preferred(summary: Scores) -> tuple[float, int]:
    """The share of pairs whose chosen side has the larger size, and the ties."""
    return summary.preferences["size"].share.mean, summary.preferences["size"].ties


TEXTS = {"prompt": "abc", "chosen": "de", "rejected": "f"}
SHAPES = {
    "texts behind a prompt": (TEXTS, 3),
    "texts behind a conversation": ({"prompt": TALK, "chosen": "de", "rejected": "f"}, len(TALK_TEXT)),
    "turns behind a conversation": ({"prompt": TALK, "chosen": [GOOD], "rejected": [BAD]}, len(TALK_TEXT)),
    "turns behind a text": ({"prompt": "abc", "chosen": [GOOD], "rejected": [BAD]}, 3),
    "the prompt's turns again": ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}, 3),
    "whole conversations": ({"chosen": [*TALK, GOOD], "rejected": [*TALK, BAD]}, len(TALK_TEXT)),
    "as UltraFeedback": (
        {
            "prompt": "as people read it",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
            "messages": [USER, GOOD],
            "score_chosen": 8.5,
            "score_rejected": 2.0,
        },
        3,
    ),
    "beside a prompt that is null": ({"prompt": None, "chosen": [USER, GOOD], "rejected": [USER, BAD]}, 3),
    "ShareGPT's turns": (
        {
            "chosen": [{"from": "human", "value": "abc"}, {"from": "gpt", "value": "de"}],
            "rejected": [{"from": "human", "value": "abc"}, {"from": "gpt", "value": "f"}],
        },
        3,
    ),
    "as hh-rlhf": (
        {
            "chosen": "\n\nHuman: abc\n\nAssistant: de",
            "rejected": "\n\nHuman: abc\n\nAssistant: f",
        },
        3,
    ),
    "transcripts beside their prompt": (
        {
            "prompt": "\n\nHuman: abc\n\nAssistant:",
            "chosen": "\n\nHuman: abc\n\nAssistant: de",
            "rejected": "\n\nHuman: abc\n\nAssistant: f",
        },
        3,
    ),
    "beside a response": ({**TEXTS, "response": "de", "completion": None}, 3),
}


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_sides_are_scored_by_their_prompt(config, shape, ending):
    row, prompt = SHAPES[shape]
    asked = config([row, row], ending)
    before = rows_of(asked.file)
    summary = run(prepare(asked))
    numbers = {"size_chosen": prompt + 200.0, "size_rejected": prompt + 100.0}
    assert rows_of(asked.file) == [{**record, **numbers} for record in before]
    assert (summary.records, *preferred(summary)) == (2, 1, 0)
    assert {name: mean.mean for name, mean in summary.means.items()} == numbers


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("so\n\nit is", "so\n\nit was", "so\n\nit"),
        ("yes", "no", ""),
        ("same words", "same words", "same"),
        ("one", "one two", ""),
        ("", "", ""),
        ("", "a b", ""),
    ],
)
def test_texts_without_prompts_share_what_both_begin_with(chosen, rejected, prompt):
    """Up to the end of a word: with the space, as TRL has it, the rest is the completion."""
    record = {"chosen": chosen, "rejected": rejected}
    samples = pairs.of_record(record, "prompt", has_prompts=False)
    assert [asked for asked, _ in samples] == [prompt, prompt]
    assert [asked + text for asked, text in samples] == [chosen, rejected]


def test_that_prompts_were_found_in_the_texts_is_said(config):
    said = prepare(
        config([{"chosen": "The sky is blue", "rejected": "The sky is red", "question": "?"}])
    ).opening
    first, note = said.splitlines()
    assert first.startswith("1 pair of ")
    assert first.endswith("in 1 shard: adding size_chosen, size_rejected")
    assert note.startswith("note: no column 'prompt': what both texts of a pair begin with is its prompt")
    assert "note" not in prepare(config([TEXTS])).opening
    assert "note" not in prepare(config([SHAPES["as hh-rlhf"][0]])).opening
    asked = config([{"question": "abc", "chosen": "de", "rejected": "f"}], prompt_column="question")
    assert "note" not in prepare(asked).opening
    run(prepare(asked))
    assert rows_of(asked.file)[0]["size_rejected"] == 103


def test_hh_rlhf_keeps_several_turns_and_empty_answers(config):
    head = TRANSCRIPT.removesuffix(" bad")
    asked = config([{"chosen": TRANSCRIPT, "rejected": head}, {"chosen": head, "rejected": head + " "}])
    summary = run(prepare(asked))
    long = len("cab\n\nAssistant: face\n\nHuman: dead")
    found = [(row["size_chosen"], row["size_rejected"]) for row in rows_of(asked.file)]
    assert found == [(long + 300, long), (long, long)]
    assert preferred(summary) == (0.5, 1)


def test_empty_and_equal_texts_are_texts(config):
    rows = [{**TEXTS, "chosen": ""}, {**TEXTS, "rejected": "de"}, {**TEXTS, "chosen": "", "rejected": ""}]
    summary = run(prepare(config(rows)))
    assert [row["size_chosen"] for row in rows_of(summary.file)] == [3, 203, 3]
    assert preferred(summary) == (0, 2)


OTHER = {"role": "user", "content": "other"}
REFUSED = [
    ({**TEXTS, "rejected": None}, "record 1 has a 'rejected' that is missing"),
    ({"prompt": "abc", "chosen": "de"}, "record 1 has a 'rejected' that is missing"),
    ({**TEXTS, "chosen": None, "rejected": None}, "record 1 has a 'chosen' that is missing"),
    ({**TEXTS, "chosen": 3}, "record 1 has a 'chosen' that is not text but int"),
    ({**TEXTS, "chosen": ["de"]}, "record 1 has a 'chosen' that is not text but list"),
    ({**TEXTS, "rejected": "\ud83d"}, "record 1 has a 'rejected' that holds half a character"),
    ({**TEXTS, "prompt": None}, "record 1 has a 'prompt' that is missing"),
    ({**TEXTS, "prompt": " "}, "record 1 has a 'prompt' that is empty"),
    ({**TEXTS, "chosen": [GOOD]}, "record 1 has a conversation and a text as 'chosen' and 'rejected'"),
    ({**TEXTS, "chosen": []}, "record 1 has a conversation and a text"),
    ({"chosen": [], "rejected": [USER, BAD]}, "record 1 has a 'chosen' that is empty"),
    ({"chosen": [GOOD], "rejected": [BAD]}, "record 1 has a 'prompt' that is missing"),
    (
        {"chosen": [USER, GOOD], "rejected": [OTHER, BAD]},
        r"record 1 has a 'chosen' and a 'rejected' that share no prompt \(turn 0 differs\): leave it out",
    ),
    ({"chosen": [USER, GOOD], "rejected": [SYSTEM, USER, BAD]}, r"share no prompt \(turn 0 differs\)"),
    ({"chosen": [USER, GOOD], "rejected": [USER, GOOD, USER, BAD]}, r"share no prompt \(turn 1 differs\)"),
    (
        {"chosen": TRANSCRIPT, "rejected": TRANSCRIPT.replace("dead", "deaf")},
        r"share no prompt \(turn 2 differs\)",
    ),
    (
        {"chosen": TRANSCRIPT, "rejected": "bad"},
        "record 1 has a conversation and a text as 'chosen' and 'rejected'",
    ),
    (
        {"chosen": [USER, GOOD], "rejected": [USER]},
        "record 1 has a 'rejected' that ends with the user's turn, not the assistant's",
    ),
    (
        {"chosen": [SYSTEM, GOOD], "rejected": [SYSTEM, BAD]},
        "record 1 has a 'chosen' whose prompt ends with the system's turn, not the user's",
    ),
    (
        {"prompt": [USER], "chosen": [GOOD, USER, GOOD], "rejected": [BAD]},
        "record 1 has in 'chosen' neither one assistant's turn nor all turns of 'prompt' before it",
    ),
    ({"prompt": "abc", "chosen": [GOOD, USER, GOOD], "rejected": [BAD]}, "record 1 has in 'chosen' neither"),
    ({"prompt": [USER], "chosen": [GOOD], "rejected": [OTHER, BAD]}, "record 1 has in 'rejected' neither"),
    (
        {"prompt": [USER, GOOD], "chosen": [GOOD], "rejected": [BAD]},
        "record 1 has a 'prompt' that ends with the assistant's turn, beside another one",
    ),
    (
        {"chosen": [{**USER, "tool_calls": [1]}, GOOD], "rejected": [USER, BAD]},
        "record 1 has a 'chosen' that has a tool call in turn 0",
    ),
]


@pytest.mark.parametrize(("row", "said"), REFUSED)
def test_what_is_no_pair_is_named_before_scoring(config, row, said):
    with pytest.raises(PromptError, match=said) as caught:
        prepare(config([TEXTS, row]))
    assert "\n" not in str(caught.value)


def test_a_file_is_pairs_or_completions_as_its_first_record(config):
    one = {"prompt": "abc", "completion": "de"}
    with pytest.raises(
        PromptError, match=r"record 1 is a pair, 'chosen' and 'rejected': score a file of pairs"
    ):
        prepare(config([one, TEXTS]))
    with pytest.raises(PromptError, match=r"record 1 has a 'chosen' that is missing"):
        prepare(config([TEXTS, one]))
    with pytest.raises(PromptError, match=r"record 1 has a 'prompt', and record 0 has none"):
        prepare(config([{"chosen": "de", "rejected": "f"}, TEXTS]))
    with pytest.raises(
        PromptError, match=r"record 0 needs 'prompt' and 'generated'.*or 'chosen' and 'rejected'"
    ):
        prepare(config([{"prompt": "abc", "chosen": "de"}]))
    with pytest.raises(ConfigError, match=r"record 0 has no column 'question' \(--prompt-column\)"):
        prepare(config([TEXTS], prompt_column="question"))
    run(prepare(config([{**TEXTS, "generated": "abcd", "chosen": None}])))


@pytest.mark.parametrize("output", ["", "b.jsonl"])
def test_a_column_that_is_there_is_never_written_over(config, tmp_path, output):
    rows = [TEXTS, {**TEXTS, "score_chosen": 8.5}]
    target = str(tmp_path / output) if output else ""
    with pytest.raises(
        ConfigError, match=r"has 'score_chosen' already: give the value another name, NAME=VALUE"
    ):
        prepare(config(rows, value=f"score={tmp_path}/own.py:size", output=target))
    run(prepare(config(rows, output=target)))


def test_values_and_sides_are_told_apart_in_every_shard(config, tmp_path):
    (tmp_path / "two.py").write_text("def bees(xs, ys): return [float(y.count('b')) for y in ys]\n")
    rows = [{"prompt": f"p{k % 70}", "chosen": "b" * (k % 7), "rejected": "x" * (k % 5)} for k in range(211)]
    value = (f"{tmp_path}/own.py:size", f"{tmp_path}/two.py:bees")
    summary = run(prepare(config(rows, shard_size=32, value=value)))
    found = rows_of(summary.file)
    assert summary.shards == 3
    assert [(row["bees_chosen"], row["bees_rejected"]) for row in found] == [(k % 7, 0) for k in range(211)]
    size = [len(row["prompt"]) + 100 * (k % 5) for k, row in enumerate(found)]
    assert [row["size_rejected"] for row in found] == size
    assert list(found[0])[3:] == ["size_chosen", "size_rejected", "bees_chosen", "bees_rejected"]
    assert summary.preferences["bees"].ties == sum(k % 7 == 0 for k in range(211))
    assert summary.preferences["bees"].share.mean == pytest.approx(sum(k % 7 > 0 for k in range(211)) / 211)


def test_rows_of_a_program_are_scored_alike_and_shown_side_by_side(config):
    rows = [TEXTS, {**TEXTS, "rejected": "fff"}]
    asked = config(rows)
    result = exptilt.score(file=rows, value=asked.value, save_directory=asked.save_directory)
    again = run(prepare(asked))
    assert result.records.to_dicts() == rows_of(asked.file)
    assert again.reused == {"size": 1}
    said = [" ".join(line.split()) for line in str(result).splitlines()]
    assert said[0] == "value chosen rejected share of chosen > rejected ties"
    assert said[1] == "size 203.0000 ± 0.0000 203.0000 ± 100.0000 0.5000 ± 0.5000 0"


def test_a_chat_reward_model_sees_prompt_and_answer_by_its_template(config, tmp_path):
    folder = judge(tmp_path / "judge", "llama", template=TEMPLATE)
    row = {"prompt": TALK, "chosen": [GOOD], "rejected": [BAD]}
    asked = config([row], value=f"tone={folder}", dtype="float32")
    run(prepare(asked))
    beside = rewards.Beside(
        base=registry.base_model("toy"), dtype="float32", base_dtype="float32", in_chat=True
    )
    reward = rewards.load(rewards.resolve(f"tone={folder}", beside), "cpu")
    prompt = tuple(Message(turn["role"], turn["content"]) for turn in TALK)
    expected = reward.score([prompt, prompt], ["de", "f"], [None, None]).rewards
    (found,) = rows_of(asked.file)
    assert [found["tone_chosen"], found["tone_rejected"]] == pytest.approx(expected, abs=1e-4)


def test_no_sweep_takes_pairs_for_a_pool(config, tmp_path):
    with pytest.raises(ExptiltError, match="record 0 is a pair"):
        exptilt.sweep(file=[{**TEXTS, "calm": 1.0}], value="calm", lam="1", save_directory=tmp_path)


def test_help_names_pairs():
    assert "chosen and rejected" in (RUNS["score"].__doc__ or "")
