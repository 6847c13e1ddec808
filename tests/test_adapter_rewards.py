"""Adapters as reward models: scores are those of the adapter on its base, labels those of its own head."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import adapt, adapted, change
from checkpoints import causal
from peft import IA3Config, LoraConfig, PrefixTuningConfig
from reward_models import CORPUS, build
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from exptilt import rewards
from exptilt.engines import registry
from exptilt.errors import ModelError
from exptilt.models import reference
from exptilt.models.loading import config_of
from exptilt.rewards import RewardSpec
from exptilt.rewards.classifier import ClassifierReward

CLASSIFIER = AutoModelForSequenceClassification
TARGETS = {
    "distilbert": ["q_lin", "v_lin"],
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "deberta": ["query_proj", "value_proj"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
}
PROMPTS, COMPLETIONS = (
    ["the room", "\n\nHuman: why?", "the goose paid"],
    [" was fine", "", " for the towels!"],
)


def lora(kind: str, **changes) -> LoraConfig:
    return LoraConfig(task_type="SEQ_CLS", r=4, target_modules=TARGETS[kind], **changes)


@pytest.fixture(scope="module", params=TARGETS)
def pair(request, tmp_path_factory) -> tuple[str, str, str]:
    """A kind of classifier, a base of that kind, and an adapter on it with three labels of its own."""
    root = tmp_path_factory.mktemp("pair")
    base = build(request.param, root / "base", labels=2)
    how = {"num_labels": 3, "ignore_mismatched_sizes": True}
    return request.param, base, adapt(base, root / "adapter", lora(request.param), CLASSIFIER, **how)


def spec(folder: str, dtype: str = "float32", **changes) -> RewardSpec:
    return RewardSpec(
        value="tone",
        kind="classifier",
        model=reference.resolve("tone", folder, "model", "SEQ_CLS"),
        dtype=dtype,
        **changes,
    )


def resolved(value: str) -> RewardSpec:
    beside = rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
    return rewards.resolve(value, beside)


def exact(base: str, folder: str, labels: int) -> np.ndarray:
    """Logits of each text alone, by the adapter on its base and not merged."""
    model = adapted(base, folder, CLASSIFIER, num_labels=labels, ignore_mismatched_sizes=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = []
    for x, y in zip(PROMPTS, COMPLETIONS, strict=True):
        with torch.no_grad():
            rows.append(model(**tokenizer(x + y, return_tensors="pt")).logits[0].double().numpy())
    return np.array(rows)


@pytest.mark.parametrize("label", ["0", "1", "2"])
def test_scores_are_those_of_the_adapter_on_its_base(pair, label):
    _, base, folder = pair
    found = ClassifierReward(spec(folder, label=label), "cpu").score(PROMPTS, COMPLETIONS, [None] * 3)
    assert np.allclose(found.rewards, exact(base, folder, 3)[:, int(label)], atol=1e-4)


def test_a_head_of_its_own_says_how_many_labels_there_are(pair):
    _, base, folder = pair
    assert config_of(reference.resolve("", base, "")).num_labels == 2
    assert resolved(f"tone={folder}#2").label == "2"
    with pytest.raises(ModelError, match=r"has the labels LABEL_0, LABEL_1, LABEL_2; choose with #LABEL"):
        resolved(f"tone={folder}#3")


def test_labels_have_the_names_of_the_adapters_own_configuration(tmp_path):
    base = build("llama", tmp_path / "base")
    how = {"num_labels": 3, "ignore_mismatched_sizes": True}
    folder = adapt(base, tmp_path / "adapter", lora("llama"), CLASSIFIER, **how)
    config = json.loads(Path(base, "config.json").read_text())
    config["id2label"] = {"0": "sad", "1": "plain", "2": "glad"}
    Path(folder, "config.json").write_text(
        json.dumps({**config, "label2id": {"sad": 0, "plain": 1, "glad": 2}})
    )
    found = ClassifierReward(resolved(f"tone={folder}#glad"), "cpu").score(PROMPTS, COMPLETIONS, [None] * 3)
    assert np.allclose(found.rewards, exact(base, folder, 3)[:, 2], atol=1e-4)


def test_a_classifier_on_a_language_model_takes_its_head_from_the_adapter(tmp_path):
    base = causal(tmp_path / "base", "llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = adapt(base, tmp_path / "adapter", lora("llama"), CLASSIFIER, num_labels=1)
    value = resolved(f"good={folder}")
    texts = (["ab", "fed"], ["cab", " a"], [None] * 2)
    model = adapted(base, folder, CLASSIFIER, num_labels=1)
    model.config.pad_token_id = 0
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        rows = [
            model(**tokenizer(x + y, return_tensors="pt")).logits[0, 0].item()
            for x, y in zip(*texts[:2], strict=True)
        ]
    assert np.allclose(ClassifierReward(value, "cpu").score(*texts).rewards, rows, atol=1e-4)


def test_other_kinds_of_adapter_score_alike(tmp_path):
    base = build("bert", tmp_path / "base")
    config = IA3Config(task_type="SEQ_CLS", target_modules=["key", "value"], feedforward_modules=[])
    folder = adapt(base, tmp_path / "adapter", config, CLASSIFIER)
    found = ClassifierReward(spec(folder, label="1"), "cpu").score(PROMPTS, COMPLETIONS, [None] * 3)
    assert np.allclose(found.rewards, exact(base, folder, 2)[:, 1], atol=1e-4)


def test_the_key_holds_base_and_adapter(pair):
    _, base, folder = pair
    plain, own = spec(base), spec(folder)
    assert own.identity == {
        **plain.identity,
        "adapters": [{"revision": own.model.adapters[0].revision, "model": ""}],
    }
    assert own.described["adapters"] == own.identity["adapters"]
    assert spec(f"{base}+{folder}").identity == own.identity


def test_a_merged_checkpoint_gives_the_same_scores_in_bfloat16(pair, tmp_path):
    _, base, folder = pair
    merged = str(tmp_path / "merged")
    model = adapted(base, folder, CLASSIFIER, num_labels=3, ignore_mismatched_sizes=True).merge_and_unload()
    model.save_pretrained(merged)
    AutoTokenizer.from_pretrained(base).save_pretrained(merged)
    scores = [
        ClassifierReward(spec(name, "bfloat16", label="1"), "cpu")
        .score(PROMPTS, COMPLETIONS, [None] * 3)
        .rewards
        for name in (folder, merged)
    ]
    assert np.array_equal(*scores)


def test_a_head_that_nobody_trained_is_refused(tmp_path):
    base = causal(tmp_path / "base", "llama")
    folder = adapt(base, tmp_path / "adapter", LoraConfig(r=4, target_modules=TARGETS["llama"]))
    with pytest.raises(ModelError, match=r"lacks weights: score.weight"):
        ClassifierReward(spec(folder), "cpu")


def test_an_adapter_for_drawing_does_not_score(tmp_path):
    base = causal(tmp_path / "base", "llama")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=TARGETS["llama"])
    folder = adapt(base, tmp_path / "adapter", config, AutoModelForCausalLM)
    with pytest.raises(
        ModelError, match=r"^value 'tone': model '.*' is an adapter for CAUSAL_LM, and one for SEQ_CLS"
    ):
        resolved(f"tone={folder}")


def test_a_reward_on_a_tuned_model_has_both_adapters(tmp_path):
    base = causal(tmp_path / "base", "llama")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=TARGETS["llama"])
    tuned = adapt(base, tmp_path / "tuned", config, AutoModelForCausalLM)
    merged = str(tmp_path / "merged")
    adapted(base, tuned).merge_and_unload().save_pretrained(merged)
    shutil.copy(Path(base, "tokenizer.json"), merged)
    folder = adapt(merged, tmp_path / "reward", lora("llama"), CLASSIFIER, num_labels=1)
    scores = []
    for name in (
        folder,
        change(str(shutil.copytree(folder, tmp_path / "on")), base_model_name_or_path=tuned),
    ):
        AutoTokenizer.from_pretrained(base).save_pretrained(name)
        scores.append(ClassifierReward(resolved(f"good={name}"), "cpu").score(["ab"], ["c"], [None]).rewards)
    assert np.allclose(*scores, atol=1e-4)


def test_prefix_tuning_is_refused_by_name(tmp_path):
    base = build("bert", tmp_path / "base")
    config = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    folder = adapt(base, tmp_path / "adapter", config, CLASSIFIER)
    with pytest.raises(
        ModelError, match=r"is an adapter of type PREFIX_TUNING, which does not merge into weights"
    ):
        resolved(f"tone={folder}")


def test_corpus_is_scored_alike_whatever_the_batch(pair):
    _, _, folder = pair
    reward = ClassifierReward(spec(folder, label="1"), "cpu")
    whole = reward.score([""] * 3, CORPUS, [None] * 3).rewards
    single = [reward.score([""], [text], [None]).rewards[0] for text in CORPUS]
    assert np.allclose(whole, single, atol=1e-4)
