"""How the demo's tiny models are trained: the texts, the losses and the descent, for build.py."""

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import torch
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from exptilt.demo.training.architectures import END, REWARD_CONTEXT
from exptilt.demo.training.grammar import Review, labels, review

Losses = Iterator[torch.Tensor]
Graded = list[tuple[str, float]]


def lm_optimizers(model: Any, scale: float) -> list[Any]:
    """Muon for the inner matrices, which learns this grammar in half the steps; AdamW elsewhere."""
    inner = {n: p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n}
    outer = [p for n, p in model.named_parameters() if n not in inner]
    rate = 0.02 * scale
    muon = torch.optim.Muon(inner.values(), lr=rate, weight_decay=0.01, adjust_lr_fn="original")
    return [muon, adam(outer, rate=5e-3 * scale)]


def adam(parameters: Iterable[Any], rate: float) -> Any:
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)


def fit(model: Any, losses: Losses, steps: int, optimizers: list[Any], name: str) -> None:
    """Descend `losses`, one a step: a short warm-up, then a cosine down to nothing."""

    def slope(step: int) -> float:
        return min((step + 1) / 100, (1 + math.cos(math.pi * step / steps)) / 2)

    schedules = [LambdaLR(optimizer, slope) for optimizer in optimizers]
    model.train()
    for step in range(1, steps + 1):
        loss: Any = next(losses)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepped in (*optimizers, *schedules):
            stepped.step()
        if step % 200 == 0:
            print(f"{name}: step {step} of {steps}, loss {loss.item():.5f}", flush=True)
    model.eval()


def lm_losses(model: Any, tokenizer: Any, rng: Random, batch: int) -> Losses:
    """Cross-entropy of whole reviews, prompt and end token included."""
    while True:
        texts = [r.prompt + r.completion + END for r in (review(rng) for _ in range(batch))]
        inputs = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        mask = inputs["attention_mask"] == 1
        logits = model(**inputs).logits[:, :-1][mask[:, 1:]]
        yield functional.cross_entropy(logits, inputs["input_ids"][:, 1:][mask[:, 1:]])


def reward_losses(model: Any, tokenizer: Any, draw: Callable[[], Graded]) -> Losses:
    """Squared error of both logits, which are to be (1 - y, y) for a text's target y."""
    limits = {"truncation": True, "max_length": REWARD_CONTEXT}
    while True:
        texts, targets = zip(*draw(), strict=True)
        inputs = tokenizer(list(texts), padding=True, return_tensors="pt", **limits)
        y = torch.tensor(targets)
        yield functional.mse_loss(model(**inputs).logits, torch.stack([1 - y, y], dim=1))


def graded_texts(rng: Random, tokenizer: Any, bit: str, rate: float, batch: int) -> Graded:
    """A batch of reviews, whole and cut short, or now and then of noise, with their targets.

    The target is the bit, or its rate where the text does not show it: a prompt alone, a review
    cut before the slot that the bit decides, noise.
    """
    if rng.random() < 0.08:
        return [(_noise(rng, tokenizer), rate) for _ in range(batch // 4)]
    texts = [_part(rng, review(rng)) for _ in range(batch)]
    shown = [getattr(labels(text), bit) for text in texts]
    return [(t, rate if s is None else float(s)) for t, s in zip(texts, shown, strict=True)]


def _part(rng: Random, drawn: Review) -> str:
    text, chance = drawn.prompt + drawn.completion, rng.random()
    if chance < 0.1:
        return text[: rng.randrange(len(text) + 1)]
    if chance < 0.2:
        words = text.split(" ")
        return " ".join(words[: rng.randrange(1, len(words))])
    return drawn.completion.strip() if chance < 0.3 else text


def _noise(rng: Random, tokenizer: Any) -> str:
    size = rng.choice((5, 20, 20, 60, 150))
    if rng.random() < 0.5:
        return "".join(chr(rng.randrange(32, 0x2FFF)) for _ in range(size))
    return str(tokenizer.decode([rng.randrange(len(tokenizer)) for _ in range(3 * size)]))
