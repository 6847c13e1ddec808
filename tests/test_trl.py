"""Tables for training as TRL takes them: its trainers prepare the very texts, and take a step of training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from adapters import adapt
from peft import LoraConfig
from reward_models import byte_level
from test_chat_rewards import judge
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import (
    DPOConfig,
    DPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
    is_conversational,
    unpair_preference_dataset,
)

from exptilt.config.settings import MCAligned
from exptilt.local_run import run
from exptilt.planning.plan import prepare

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TALKS = [
    [("user", "why?")],
    [("system", "be brief"), ("user", "why?"), ("assistant", "so"), ("user", "ok?")],
    [("user", "Ärger im Café")],
]
CONVERSATIONS = [[{"role": role, "content": text} for role, text in talk] for talk in TALKS]
STEP: dict[str, Any] = {
    **{"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False},
    **{"report_to": [], "save_strategy": "no", "disable_tqdm": True},
}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory) -> str:
    """A small random Llama that knows the bytes and has a template."""
    folder = tmp_path_factory.mktemp("model") / "small"
    tokenizer = byte_level(roberta=False)
    tokenizer.model_max_length, tokenizer.chat_template = 256, TEMPLATE
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(vocab_size=320, max_position_embeddings=256, **size, **ends)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["texts", "conversations"])
def exported(request, chat_model, tmp_path_factory) -> str:
    """The folder of a run that wrote all exports."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "own.py").write_text(
        "def size(prompts, completions): return [float(len(c)) for c in completions]\n"
    )
    prompts = ["the room", "the goose", "why"] if request.param == "texts" else CONVERSATIONS
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    settings = {"basemodel": chat_model, "data": f"{folder}/p.jsonl", "save_directory": f"{folder}/results"}
    tilt = {
        "value": f"{folder}/own.py:size",
        "lam": 1.0,
        "nsamples": 8,
        "max_new_tokens": 8,
        "dtype": "float32",
    }
    return run(prepare(MCAligned(**settings, **tilt, export="all"))).folder


def loaded(folder: str, name: str) -> datasets.Dataset:
    return datasets.load_dataset(folder, name, split="train", cache_dir=f"{folder}/../cache")


def names(folder: str, kind: str) -> list[str]:
    """The tables of a kind that a run wrote: as texts, where prompts are such, and as messages."""
    return [name for name in (kind, f"{kind}-chat") if Path(folder, name).exists()]


def test_weights_of_all_samples_load_and_sum_to_one(exported):
    table = loaded(exported, "weighted")
    assert len(table) == 24
    assert sum(table["weight"]) == pytest.approx(3)
    assert ("messages" in table.column_names) == (names(exported, "pairs") == ["pairs-chat"])


def text_of(tokenizer: Any, prompt: Any, completion: Any) -> str:
    """What a trainer is to see: the template's text, or the two texts and the end token."""
    if isinstance(prompt, str):
        return prompt + completion + tokenizer.eos_token
    return tokenizer.apply_chat_template(prompt + completion, tokenize=False)


def trained(trainer: Any) -> None:
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert any(not torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())


def test_pairs_are_those_of_dpo_and_reward_trainers(exported, chat_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    for name in names(exported, "pairs"):
        table = loaded(exported, name)
        assert is_conversational(table[0]) == name.endswith("chat")
        expected = {
            side: [text_of(tokenizer, row["prompt"], row[side]) for row in table]
            for side in ("chosen", "rejected")
        }
        dpo = DPOTrainer(chat_model, args=DPOConfig(f"{tmp_path}/dpo", **STEP), train_dataset=table)
        reward = RewardTrainer(chat_model, args=RewardConfig(f"{tmp_path}/r", **STEP), train_dataset=table)
        for side, texts in expected.items():
            rows = dpo.train_dataset
            assert [tokenizer.decode(row["prompt_ids"] + row[f"{side}_ids"]) for row in rows] == texts
            assert [tokenizer.decode(ids) for ids in reward.train_dataset[f"{side}_ids"]] == texts
        trained(dpo)
        trained(reward)


def test_unpaired_rows_are_those_of_kto(exported):
    for name in names(exported, "pairs"):
        table = loaded(exported, name).select_columns(["prompt", "chosen", "rejected"])
        rows = unpair_preference_dataset(table)
        assert rows.column_names == ["prompt", "completion", "label"]
        assert sum(rows["label"]) == len(table)


def test_completions_are_those_of_the_sft_trainer(exported, chat_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    records = loaded(exported, "records")
    for name in names(exported, "sft"):
        table = loaded(exported, name)
        assert is_conversational(table[0]) == name.endswith("chat")
        if name == "sft":
            texts = [text_of(tokenizer, row["prompt"], row["completion"]) for row in records]
        else:
            texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in table]
            assert [row["messages"][-1]["content"] for row in table] == list(records["completion"])
        sft = SFTTrainer(chat_model, args=SFTConfig(f"{tmp_path}/sft", **STEP), train_dataset=table)
        assert [tokenizer.decode(ids) for ids in sft.train_dataset["input_ids"]] == texts
        trained(sft)


def test_from_ultrafeedback_to_dpo_in_one_command(chat_model, tmp_path):
    """An adapter draws, a chat reward model judges, and the pairs train the adapter's base."""
    answer = [{"role": "assistant", "content": "so"}]
    rows = [
        {
            "prompt": talk[-1]["content"],
            "prompt_id": str(number),
            "chosen": talk + answer,
            "rejected": [*talk, {"role": "assistant", "content": "no"}],
            "messages": talk + answer,
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        }
        for number, talk in enumerate(CONVERSATIONS)
    ]
    (tmp_path / "uf.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    adapter, critic = adapt(chat_model, tmp_path / "adapter", lora), judge(tmp_path / "critic", "llama")
    command = [sys.executable, "-m", "exptilt.command", "mc-aligned"]
    command += ["--basemodel", f"{chat_model}+{adapter}", "--data", "uf.jsonl", "--prompt-column", "messages"]
    command += ["--value", f"tone={critic}", "--lam", "tone=2", "--nsamples", "8", "--max-new-tokens", "8"]
    command += ["--export", "pairs-chat", "--dtype", "float32"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tilted by 2 × tone (chat)" in done.stderr
    assert "pairs       3" in done.stdout
    (folder,) = (path.parent for path in (tmp_path / "results").glob("*/manifest.json"))
    assert not {"pairs", "sft", "sft-chat", "weighted"} & {path.name for path in folder.iterdir()}
    table = loaded(str(folder), "pairs-chat")
    assert list(table["prompt"]) == CONVERSATIONS
    dpo = DPOTrainer(
        chat_model, args=DPOConfig(f"{tmp_path}/dpo", **STEP), train_dataset=table, peft_config=lora
    )
    trained(dpo)
