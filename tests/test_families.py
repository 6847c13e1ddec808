"""Every kind of causal language model is drawn from exactly, or refused by name.

`make families` tries every class of the library that can be built small, and writes docs/families.md.
"""

from pathlib import Path

import numpy as np
import torch
from families import classifier
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from exptilt.engines.base import P0, Sample
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.models import reference
from exptilt.models.forward import logits_of
from exptilt.models.loading import check_causal, load_tokenizer
from exptilt.rewards.base import RewardSpec
from exptilt.rewards.classifier import ClassifierReward
from exptilt.storage import keys

PROMPTS = ["a", "The-cat-sat-on-the-mat", "xyz12", "The-cat"]
N = 3


def engine_of(folder: str, **changes) -> TransformersEngine:
    """The engine for the checkpoint in `folder`, as a plan would make it."""
    model = reference.base_model(folder)
    check_causal(model)
    law = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return TransformersEngine(P0(model=model, ends=(0,), named_ends=(0,), **{**law, **changes}), "cpu")


def draw(engine: TransformersEngine, prompts: list[str]) -> list[list[Sample]]:
    return engine.draw(prompts, keys.seeds_for(0, prompts, 0, N), 0)


@torch.inference_mode()
def forced(engine: TransformersEngine, prompt: str, sample: Sample) -> tuple[float, float]:
    """log p0 and NLL of a sample, by one pass without a cache over its text alone."""
    start = engine.tokenizer(prompt)["input_ids"]
    new = engine.tokenizer(sample.completion)["input_ids"]
    ended = [0] * (sample.finish_reason == "stop")
    tokens = [*start, *new, *ended]
    one = torch.tensor([tokens])
    logp = logits_of(engine.model, one, torch.ones_like(one))[0].double().log_softmax(-1)
    steps = [float(logp[i - 1, token]) for i, token in enumerate(tokens) if i]
    text = steps[: len(steps) - len(ended)]
    return sum(steps[len(start) - 1 :]), -float(np.mean(text)) if text else float("nan")


def error_of(engine: TransformersEngine) -> float:
    """The largest error of log p0 and NLL, of prompts drawn together; draws alone must be the same."""
    together, errors = draw(engine, PROMPTS), [0.0]
    for prompt, row in zip(PROMPTS, together, strict=True):
        for sample, alone in zip(row, draw(engine, [prompt])[0], strict=True):
            assert sample.completion == alone.completion
            logprob, nll = forced(engine, prompt, sample)
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
