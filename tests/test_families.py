"""Every kind of causal language model is drawn from exactly, or refused by name.

`make families` tries every class of the library that can be built small, and writes
docs/reference/families.md.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import build, causal_model, classifier, small_config
from transformers import AutoModelForSeq2SeqLM, T5Config
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from exptilt.config.settings import Original
from exptilt.engines.base import P0, Sample
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ModelError
from exptilt.models import loading, reference
from exptilt.models.forward import logits_of
from exptilt.models.loading import check_causal, load_tokenizer
from exptilt.planning.plan import prepare
from exptilt.rewards.base import RewardSpec
from exptilt.rewards.classifier import ClassifierReward
from exptilt.rewards.perplexity import PerplexityReward
from exptilt.storage import keys

PROMPTS = ["a", "The-cat-sat-on-the-mat", "xyz12", "The-cat"]
N = 3


def engine_of(folder: str, **changes) -> TransformersEngine:
    """The engine for the checkpoint in `folder`, as a plan would make it."""
    model = reference.checkpoint(folder)
    check_causal(model)
    law = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return TransformersEngine(P0(model=model, ends=(0,), named_ends=(0,), **{**law, **changes}), "cpu")


def draw(engine: TransformersEngine, prompts: list[str]) -> list[list[Sample]]:
    return engine.draw(prompts, keys.seeds_for(0, prompts, 0, N), 0)


def in_float64(model: Any) -> Any:
    """A copy of the model, whose own rounding is none of the error."""
    exact = copy.deepcopy(model).double()
    exact.set_experts_implementation("eager")  # the others multiply no float64
    return exact


@contextmanager
def in_double() -> Iterator[None]:
    """Let what a model makes without a type be float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.inference_mode()
def forced(engine: TransformersEngine, model: Any, prompt: str, sample: Sample) -> tuple[float, float]:
    """log p0 and NLL of a sample, by one pass of `model` without a cache over its text alone."""
    start = engine.tokenizer(prompt)["input_ids"]
    new = engine.tokenizer(sample.completion)["input_ids"]
    ended = [0] * (sample.finish_reason == "stop")
    tokens = [*start, *new, *ended]
    one = torch.tensor([tokens])
    with in_double():
        logp = logits_of(model, one, torch.ones_like(one))[0].log_softmax(-1)
    steps = [float(logp[i - 1, token]) for i, token in enumerate(tokens) if i]
    text = steps[: len(steps) - len(ended)]
    return sum(steps[len(start) - 1 :]), -float(np.mean(text)) if text else float("nan")


def error_of(engine: TransformersEngine) -> float:
    """The largest error of log p0 and NLL, of prompts drawn together; draws alone must be the same."""
    together, errors = draw(engine, PROMPTS), [0.0]
    exact = in_float64(engine.model)
    for prompt, row in zip(PROMPTS, together, strict=True):
        for sample, alone in zip(row, draw(engine, [prompt])[0], strict=True):
            assert sample.completion == alone.completion
            logprob, nll = forced(engine, exact, prompt, sample)
            errors += [abs(sample.logprob - logprob), abs(alone.logprob - logprob)]
            errors += [abs(sample.nll - nll)] if sample.nll is not None else []
    return max(errors)


@torch.inference_mode()
def way_of_classifier(family: str, folder: Path) -> str:
    """How the family's sequence classifier is scored, once its scores are those of texts alone."""
    if family not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return "none"
    ref = reference.resolve("tone", classifier(family, folder), "model")
    reward = ClassifierReward(RewardSpec(value="tone", kind="classifier", model=ref), "cpu")
    prompts, completions = ["The-cat"] * 3 + PROMPTS, ["", "-sat", "-sat-on-the-mat", "b", "", "c-d", "2"]
    scores = reward.score(prompts, completions, [None] * len(prompts)).rewards
    model, tokenizer = reward.classifier.model, load_tokenizer(ref)
    rows = [torch.tensor([tokenizer(x + y)["input_ids"]]) for x, y in zip(prompts, completions, strict=True)]
    alone = [float(model(input_ids=row).logits[0, 1]) for row in rows]
    assert np.abs(scores - alone).max() < 1e-4 * max(np.abs(alone).max(), 1), (family, scores, alone)
    return reward.classifier.way.__name__.strip("_").replace("_", " ")


WAYS = {
    "qwen3": "shared",
    "bloom": "copied",
    "gemma2": "shared",
    "gemma3_text": "shared",
    "gpt_oss": "shared",
    "cohere2": "shared",
    "olmo3": "shared",
    "phi3": "shared",
    "jamba": "plain",
    "qwen3_next": "plain",
    "mamba": "plain",
    "openai-gpt": "plain",
    "rwkv": "uncached",
    "roberta": "uncached",
}


@pytest.mark.parametrize(("family", "way"), WAYS.items())
def test_each_way_of_drawing_is_exact(family, way, tmp_path):
    engine = engine_of(causal_model(family, tmp_path / "model"))
    assert engine.way == way
    assert error_of(engine) < 1e-4


@pytest.mark.parametrize(
    ("family", "window"),
    [*(("mistral", window) for window in (8, 16, 26, 64)), ("gemma3_text", 16), ("gpt_oss", 16)],
)
def test_a_window_may_be_exceeded_while_drawing(family, window, tmp_path):
    """By the prompt and the trial (8), by the prompt alone (16), by the tokens drawn (26), or not (64)."""
    engine = engine_of(causal_model(family, tmp_path / "model", sliding_window=window))
    assert engine.way == "shared"
    assert error_of(engine) < 1e-4


BIDIRECTIONAL = "is not a causal language model: its numbers at a token depend on the tokens behind it"
ENCODER_DECODER = "is not a causal language model but an encoder-decoder model, or a part of one"


def refused(folder: Path) -> dict[str, tuple[Callable[[], object], str]]:
    """How to build what is no causal language model, and what is said of it."""
    tiny = {"vocab_size": 63, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return {
        "bert": (lambda: causal_model("bert", folder, is_decoder=False), BIDIRECTIONAL),
        "xlnet": (lambda: causal_model("xlnet", folder), BIDIRECTIONAL),
        "bart": (lambda: build(AutoModelForSeq2SeqLM, small_config("bart"), folder), ENCODER_DECODER),
        "bart without its encoder": (lambda: causal_model("bart", folder), ENCODER_DECODER),
        "t5": (lambda: build(AutoModelForSeq2SeqLM, T5Config(**tiny), folder), ENCODER_DECODER),
    }


@pytest.mark.parametrize("kind", ["bert", "xlnet", "bart", "bart without its encoder", "t5"])
def test_what_is_no_causal_model_is_refused_while_planning(kind, tmp_path):
    make, said = refused(tmp_path / "model")[kind]
    make()
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))
    where = {"data": str(tmp_path / "p.json"), "save_directory": str(tmp_path / "results")}
    config = Original(basemodel=str(tmp_path / "model"), **where, dtype="float32", max_new_tokens=4)
    with pytest.raises(ModelError) as caught:
        prepare(config)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"base model '{tmp_path / 'model'}' ")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("results/pool/samples/*"))


def test_no_likelihood_comes_of_a_decoder_without_its_encoder(tmp_path):
    """Perplexity of texts that exist asks for a model without a plan."""
    folder = causal_model("bart", tmp_path / "model")
    with pytest.raises(ModelError, match=ENCODER_DECODER):
        loading.causal_model(reference.checkpoint(folder), "cpu", "float32")


def test_what_is_no_causal_model_has_no_perplexity(tmp_path):
    model = reference.checkpoint(causal_model("bert", tmp_path / "model", is_decoder=False))
    reward = PerplexityReward(RewardSpec(value="perplexity", kind="perplexity", model=model), "cpu")
    with pytest.raises(ModelError, match="is not a causal language model"):
        reward.score(["The-cat"], ["-sat"], [None])
