"""How a classifier sees a sample: as text, a pair, the completion alone, or a conversation by template."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_models import byte_level
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from exptilt import rewards
from exptilt.config.settings import MCAligned
from exptilt.conversation import Message, text_of, turns
from exptilt.engines import registry
from exptilt.errors import ConfigError, ModelError, RewardError
from exptilt.planning.plan import prepare
from exptilt.rewards import catalogue
from exptilt.rewards.base import CONVERSATION

TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**SMALL, "num_key_value_heads": 1, "vocab_size": 320}
CONFIGS = {
    "llama": lambda size: LlamaConfig(**GROUPED, max_position_embeddings=size),
    "qwen2": lambda size: Qwen2Config(**GROUPED, max_position_embeddings=size),
    "gemma": lambda size: GemmaConfig(**GROUPED, head_dim=16, max_position_embeddings=size),
    "gpt2": lambda size: GPT2Config(vocab_size=320, n_positions=size, n_embd=32, n_layer=2, n_head=2),
}
PROMPTS = [
    "the room",
    (
        Message("system", "be brief"),
        Message("user", "why?"),
        Message("assistant", "so"),
        Message("user", "ok?"),
    ),
    (Message("user", "Ärger im Café"),),
]
COMPLETIONS = [" was fine", "no", "100 % naïve!"]


def judge(folder: Path, kind: str, pad: str = "eos", size: int = 256, template: str = TEMPLATE) -> str:
    """A random reward model of one label; `pad` is its pad token: eos, own, or none."""
    torch.manual_seed(1)
    tokenizer = byte_level(roberta=False, pad=pad == "own")
    tokenizer.model_max_length = size
    if pad == "eos":
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.add_special_tokens({"bos_token": tokenizer.eos_token})
    tokenizer.chat_template = template or None
    config = CONFIGS[kind](size)
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_config(config)
    model.score.weight.data.mul_(200 if kind == "gemma" else 20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def beside(**changes) -> rewards.Beside:
    return rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32", **changes)


def score(
    folder: str, how: str = ":chat", prompts=PROMPTS, completions=COMPLETIONS, **changes
) -> rewards.Scored:
    spec = rewards.resolve(f"tone={folder}{how}", beside(**changes))
    return rewards.load(spec, "cpu").score(prompts, completions, [None] * len(prompts))


def one_by_one(folder: str, rows: list[list[int]]) -> np.ndarray:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = 0  # a row alone has no padding
    with torch.inference_mode():
        return np.array([model(input_ids=torch.tensor([row])).logits[0, 0].item() for row in rows])


def templated(folder: str, prompts=PROMPTS, completions=COMPLETIONS) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [[*turns(x), Message("assistant", y)] for x, y in zip(prompts, completions, strict=True)]
    return [
        tokenizer.apply_chat_template([m._asdict() for m in row], tokenize=True)["input_ids"] for row in said
    ]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("pad", ["eos", "own", "none"])
def test_a_conversation_is_scored_as_by_the_library_one_at_a_time(tmp_path, kind, pad):
    """By the tokens of apply_chat_template, with one BOS; several completions of a prompt among them."""
    folder = judge(tmp_path / kind, kind, pad)
    prompts, completions = PROMPTS * 3, [f"{y} {k}" for k in range(3) for y in COMPLETIONS]
    rows = templated(folder, prompts, completions)
    start = AutoTokenizer.from_pretrained(folder).bos_token_id
    assert all(row.count(start) == 1 for row in rows)
    found = score(folder, prompts=prompts, completions=completions)
    np.testing.assert_allclose(found.rewards, one_by_one(folder, rows), atol=1e-4)
    assert np.ptp(found.rewards) > 0.1


def test_other_forms_give_the_text_the_pair_and_the_completion(tmp_path):
    folder = judge(tmp_path / "m", "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before, after = CONVERSATION
    texts = [text_of(x) for x in PROMPTS]
    seen = {
        ":text": [
            texts[0] + COMPLETIONS[0],
            *(f"{t}\n\nAssistant: {y}" for t, y in zip(texts[1:], COMPLETIONS[1:], strict=True)),
        ],
        ":completion": COMPLETIONS,
    }
    for how, rows in seen.items():
        expected = one_by_one(folder, [tokenizer(row)["input_ids"] for row in rows])
        np.testing.assert_allclose(score(folder, how).rewards, expected, atol=1e-4)
    pairs = [
        tokenizer(f"{before}{t}{after}", y.strip())["input_ids"]
        for t, y in zip(texts, COMPLETIONS, strict=True)
    ]
    np.testing.assert_allclose(score(folder, ":pair").rewards, one_by_one(folder, pairs), atol=1e-4)


def test_chat_is_the_form_of_conversations_where_the_model_has_a_template(tmp_path):
    with_template, without = judge(tmp_path / "a", "llama"), judge(tmp_path / "b", "llama", template="")
    forms = {
        (folder, in_chat): rewards.resolve(f"tone={folder}", beside(in_chat=in_chat)).form
        for folder in (with_template, without)
        for in_chat in (False, True)
    }
    assert forms == {
        (with_template, False): "text",
        (with_template, True): "chat",
        (without, False): "text",
        (without, True): "text",
    }
    with pytest.raises(
        ModelError, match=r"value 'tone': the tokenizer of .* has no chat template: use :text"
    ):
        rewards.resolve(f"tone={without}:chat", beside())


def test_the_form_is_in_the_key_and_old_keys_stay(tmp_path):
    folder = judge(tmp_path / "m", "llama")
    specs = {
        how: rewards.resolve(f"tone={folder}:{how}", beside())
        for how in ("text", "pair", "chat", "completion")
    }
    said = {how: spec.identity for how, spec in specs.items()}
    assert len({json.dumps(identity, sort_keys=True) for identity in said.values()}) == 4
    assert not said["text"].keys() & {"form", "form_template"}
    assert (said["text"]["pair"], said["pair"]["pair"]) == (False, True)
    assert said["chat"]["form_template"] == specs["chat"].form_template != ""


def test_what_is_too_long_loses_its_oldest_turns_but_no_system_turn(tmp_path):
    """As many as must go, a question with its answer; the numbers are those of what is left."""
    folder = judge(tmp_path / "m", "llama", size=96)
    talk = [Message("user" if k % 2 == 0 else "assistant", f"turn {k} of many") for k in range(9)]
    prompt = (Message("system", "be brief"), *talk)
    found = score(folder, prompts=[prompt, *PROMPTS[:1]], completions=["yes", " was fine"])
    assert found.cut == 1
    lengths = {}
    for first in range(0, 9, 2):
        left = [prompt[0], *talk[first:]]
        lengths[first] = templated(folder, [tuple(left)], ["yes"])[0]
    first = next(k for k, row in lengths.items() if len(row) <= 96)
    assert first > 0
    np.testing.assert_allclose(found.rewards[:1], one_by_one(folder, [lengths[first]]), atol=1e-4)
    with pytest.raises(RewardError, match="the last turns of the conversation that ends 'yes' are more than"):
        score(folder, prompts=[(Message("user", "x " * 100),)], completions=["yes"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("rewards.py:f:chat", "unknown value|there is no file"),
        ("diversity:chat", "#LABEL, :prob, :logprob and :chat are for classifiers"),
        ("tone=a/b:prob:chat", None),
        ("tone=a/b#1:logprob:completion", None),
    ],
)
def test_how_a_form_is_written(value, said):
    if said is None:
        catalogue.check_name(value)
        assert catalogue.parse(value).form in ("chat", "completion")
        assert catalogue.column_of(value) == value.partition("=")[0] + f":{catalogue.parse(value).transform}"
    else:
        with pytest.raises(ConfigError, match=said):
            catalogue.check_name(value)


def test_the_opening_names_the_form_and_a_template_that_is_not_used(tmp_path):
    folder = judge(tmp_path / "m", "llama")
    (tmp_path / "p.txt").write_text("the room\n")
    asked = {
        "basemodel": "toy",
        "data": str(tmp_path / "p.txt"),
        "save_directory": str(tmp_path / "r"),
        "lam": 1.0,
    }
    first, note = prepare(MCAligned(**asked, value=f"tone={folder}")).opening.splitlines()
    assert first.endswith("tilted by 1 × tone (text)")
    assert "has a chat template, and value 'tone' is given text: :chat behind it" in note
    (only,) = prepare(MCAligned(**asked, value=f"tone={folder}:chat")).opening.splitlines()
    assert only.endswith("tilted by 1 × tone (chat)")
