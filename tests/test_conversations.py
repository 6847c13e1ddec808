"""Conversations as prompts: found by shape, drawn by the template, kept as messages, scored by theirs."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from checkpoints import causal
from reward_models import byte_level
from transformers import AutoTokenizer

import exptilt
from exptilt.config.settings import MCAligned, Original
from exptilt.config.validation import build
from exptilt.conversation import Message, text_of
from exptilt.data import conversations, prompts
from exptilt.errors import ConfigError, ExptiltError, PromptError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.storage import keys

TURNS = [
    [{"role": "user", "content": "abc"}],
    [
        {"role": "system", "content": "fed"},
        {"role": "user", "content": "cab"},
        {"role": "assistant", "content": "face"},
        {"role": "user", "content": "dead"},
    ],
    [{"role": "user", "content": "beef"}, {"role": "assistant", "content": "bad"}],
]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}{{ m['content'] }}<e>{% endfor %}"
    "{% if think is defined and think == false %}f{% endif %}"
    "{% if add_generation_prompt %}a{% endif %}"
)


def chat_model(folder: Path, template: str = TEMPLATE, positions: int = 256) -> str:
    """A small model whose tokenizer knows the bytes and has a template."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_level(roberta=False)
    tokenizer.model_max_length = positions
    tokenizer.chat_template = template
    size = {"vocab_size": 320, "n_positions": positions, "n_embd": 32, "n_layer": 2, "n_head": 2}
    GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat") / "small")


@pytest.fixture
def config(folder, tmp_path):
    """Make a configuration over `rows` of a file, with some settings changed."""

    def make(rows: list, model=Original, **settings):
        (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
        common = {
            "basemodel": folder,
            "data": str(tmp_path / "c.jsonl"),
            "max_new_tokens": 6,
            "dtype": "float32",
        }
        return build(model, {**common, "save_directory": str(tmp_path / "results"), **settings})

    return make


def records(config) -> list[dict]:
    return json.loads(Path(run(prepare(config)).json).read_text())


SHARED = [
    {"from": {"assistant": "gpt", "user": "human"}.get(t["role"], t["role"]), "value": t["content"]}
    for t in TURNS[1]
]
TRANSCRIPT = "\n\nHuman: cab\n\nAssistant: face\n\nHuman: dead\n\nAssistant: bad"


@pytest.mark.parametrize(
    ("row", "roles", "reference"),
    [
        ({"prompt": TURNS[1]}, "suau", None),
        ({"messages": TURNS[2]}, "u", "bad"),
        ({"conversations": SHARED}, "suau", None),
        ({"chosen": TRANSCRIPT, "rejected": "x"}, "uau", "bad"),
        ({"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}}, "u", "b"),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "u", None),
    ],
)
def test_a_conversation_is_known_by_its_shape(config, row, roles, reference):
    (record,) = records(config([row]))
    said = record["messages"]
    assert "".join(turn["role"][0] for turn in said) == f"{roles}a"
    assert said[-1]["content"] == record["completion"]
    assert record.get("reference") == reference
    assert "generated" not in record


def test_text_prompts_keep_their_ids_and_records_have_the_completion(config, toy_original):
    assert prepare(config([{"prompt": "abc"}])).recipe.p0.chat == ""
    (record,) = records(config([{"prompt": "abc"}]))
    assert list(record)[:3] == ["prompt", "completion", "generated"]
    assert record["generated"] == record["prompt"] + record["completion"]
    assert keys.prompt_id("The room was") == "6cfd53c010bc4e258b0f5bb82c603bc9"


def test_an_id_is_of_the_messages_and_not_of_the_text(config, folder, tmp_path):
    other = chat_model(tmp_path / "other", "b" + TEMPLATE)
    ids = []
    for settings in ({}, {"basemodel": other}, {"template_options": "think=false"}, {"system": "ab"}):
        plan = prepare(config([{"messages": TURNS[2]}], **settings))
        ids.append(
            (pl.read_parquet(f"{plan.shards[0].prompts}/*.parquet")["prompt_id"][0], plan.recipe.p0.chat)
        )
    assert ids[0][0] == ids[1][0] == ids[2][0] != ids[3][0]
    assert len({chat for _, chat in ids[:3]}) == 3
    expected = (Message("system", "ab"), Message("user", "beef"))
    assert ids[3][0] == keys.prompt_id(expected)


def test_the_model_sees_what_its_template_makes(config, folder, tmp_path):
    """The same completions as of the text by hand; by options and a template of the user's own, too."""
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}c")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for settings, how in (
        ({}, {}),
        ({"template_options": {"think": False}}, {"think": False}),
        ({"chat_template": str(tmp_path / "own.jinja")}, {"chat_template": "{{ messages[0]['content'] }}c"}),
    ):
        text = tokenizer.apply_chat_template(TURNS[1], tokenize=False, add_generation_prompt=True, **how)
        plan = prepare(config([{"prompt": TURNS[1]}], nsamples=4, **settings))
        (row,) = pl.read_parquet(f"{plan.shards[0].prompts}/*.parquet").to_dicts()
        seeds = keys.seeds_for(0, [row["prompt_id"]], 0, 4)
        by_hand = plan.recipe.p0
        from dataclasses import replace

        from exptilt.engines.huggingface.engine import TransformersEngine

        drawn = TransformersEngine(replace(by_hand, chat=""), "cpu").draw([text], seeds, 0)[0]
        found = run(plan)
        rows = [r["completion"] for r in json.loads(Path(found.json).read_text())]
        assert rows == [sample.completion for sample in drawn]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"messages": [{"role": "tool", "content": "x"}]}], r"prompt 0 has a tool call in turn 0"),
        ([{"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}], r"prompt 0 has a tool call"),
        (
            [{"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}]}],
            r"prompt 0 has an image",
        ),
        (
            [{"messages": [{"role": "narrator", "content": "x"}]}],
            r"prompt 0 has the role 'narrator' in turn 0",
        ),
        ([{"messages": [{"role": "assistant", "content": "x"}]}], r"prompt 0 is empty"),
        ([{"messages": [{"role": "user", "content": None}]}], r"prompt 0 has no content in turn 0"),
        ([{"messages": [{"role": "user", "content": "\ud83d"}]}], r"prompt 0 holds half a character"),
        ([{"prompt": "abc"}, {"prompt": TURNS[0]}], r"prompt 1 is a conversation, but prompt 0 is a text"),
        ([{"prompt": TURNS[0]}, {"prompt": "abc"}], r"prompt 1 is a text, but prompt 0 is a conversation"),
        ([{"prompt": TURNS[0]}, {"prompt": []}], r"prompt 1 is empty"),
    ],
)
def test_what_is_no_conversation_is_named_or_left_out_on_record(config, rows, said):
    with pytest.raises(PromptError, match=said):
        prepare(config(rows))
    good = [{name: TURNS[0] for name in rows[0]}]
    if len(rows) == 1:
        summary = run(prepare(config(good + rows, on_long_prompt="skip")))
        assert (summary.prompts, sum(summary.skipped.values())) == (1, 1)
        manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
        assert list(manifest["skipped_prompts"]) == ["1"]
        assert "left out" in Path(summary.folder, "README.md").read_text()


def test_empty_and_missing_texts_are_left_out_by_the_same_flag(config):
    rows = [{"prompt": "abc"}, {"prompt": ""}, {"prompt": None}, {"prompt": 3}, {"prompt": "cab"}]
    with pytest.raises(PromptError, match="prompt 1 is empty"):
        prepare(config(rows))
    plan = prepare(config(rows, on_long_prompt="skip"))
    assert plan.skipped == {1: "empty", 2: "missing", 3: "not text"}
    table = pl.read_parquet(f"{plan.shards[0].prompts}/*.parquet")
    assert table["prompt_index"].to_list() == [0, 4]
    with pytest.raises(ConfigError, match="every prompt is left out: 1 empty, 1 missing"):
        prepare(config(rows[1:3], on_long_prompt="skip"))


def test_what_the_template_refuses_names_the_prompt(config, tmp_path):
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + TEMPLATE
    )
    model = chat_model(tmp_path / "strict", strict)
    rows = [{"messages": turns} for turns in TURNS]
    with pytest.raises(PromptError, match=r"prompt 1 \('fed.*the chat template of .* fails: no system role"):
        prepare(config(rows, basemodel=model))
    assert prepare(config(rows, basemodel=model, on_long_prompt="skip")).skipped == {
        1: "refused by the chat template"
    }


def test_a_model_without_a_template_is_named(config, tmp_path):
    with pytest.raises(ExptiltError, match=r"has no chat template; give one by --chat-template FILE"):
        prepare(config([{"messages": TURNS[0]}], basemodel=causal(tmp_path / "plain", "gpt2")))


def test_the_opening_says_that_prompts_are_conversations(config):
    assert "3 prompts of" in (said := prepare(config([{"messages": turns} for turns in TURNS])).opening)
    assert "c.jsonl (conversations in column 'messages') by the chat template × 1 sample" in said


def test_exports_are_messages_as_trainers_take_them(config, tmp_path):
    (tmp_path / "own.py").write_text(
        "def size(prompts, completions): return [float(len(c)) for c in completions]\n"
    )
    rows = [{"messages": turns} for turns in TURNS]
    tilt = {"value": f"{tmp_path}/own.py:size", "lam": 1.0, "nsamples": 8, "export": "all"}
    summary = run(prepare(config(rows, MCAligned, **tilt)))
    pairs = pl.read_parquet(f"{summary.folder}/pairs-chat/*.parquet").to_dicts()
    assert summary.pairs == len(pairs) > 0
    assert pairs[0]["prompt"] == TURNS[0]
    assert [turn["role"] for turn in pairs[0]["chosen"]] == ["assistant"]
    sft = pl.read_parquet(f"{summary.folder}/sft-chat/*.parquet")["messages"].to_list()
    assert [turn["role"][0] for turn in sft[1]] == list("suaua")
    assert not Path(summary.folder, "pairs").exists()


def test_lists_of_conversations_serve_the_api(folder, tmp_path):
    result = exptilt.original(
        data=TURNS[:1], basemodel=folder, max_new_tokens=3, save_directory=str(tmp_path)
    )
    assert result.records["messages"][0][0] == {"role": "user", "content": "abc"}


def test_a_transcript_that_waits_for_its_answer_is_a_text_unless_chat_is_asked_for():
    waiting = "\n\nHuman: cab\n\nAssistant:"
    assert conversations.asked(waiting).prompt == waiting
    assert conversations.asked(waiting, in_chat=True).prompt == (Message("user", "cab"),)


def test_tables_say_messages_in_the_order_of_the_source(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([{"messages": turns} for turns in TURNS]))
    (table,) = prompts.tables(str(tmp_path / "c.json"), "prompt")
    assert table["messages"].to_list() == [TURNS[0], TURNS[1], TURNS[2][:1]]
    assert table["reference"].to_list() == [None, None, "bad"]
    assert table["prompt"][1] == text_of(tuple(Message(t["role"], t["content"]) for t in TURNS[1]))
    assert np.array_equal(table["prompt_index"], [0, 1, 2])
