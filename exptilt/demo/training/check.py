"""A short check of the demo as it lies on disk: rates, grammar, logits and size."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from exptilt.demo import MODEL, PROMPTS, REWARDS
from exptilt.demo.training.grammar import (
    HUMOR_RATE,
    POSITIVE_RATE,
    is_review,
    kind_of,
    labels,
    prompts,
    review,
)

BITS = {"humor": "absurd", "positive": "favourable"}


class Sample(NamedTuple):
    """One completion of the language model."""

    prompt: str
    completion: str
    tokens: int
    ended: bool


def main(per_prompt: int = 40) -> None:
    samples = draw(per_prompt)
    report_lm(samples)
    for name in REWARDS:
        report_reward(name)
    files = [PROMPTS, *(p for folder in (MODEL, *REWARDS.values()) for p in folder.iterdir())]
    print(f"on disk: {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")


def draw(per_prompt: int) -> list[Sample]:
    """Sample `per_prompt` completions of every prompt at temperature 1 with top_k 50."""
    torch.manual_seed(0)
    tokenizer, model = _load(MODEL, AutoModelForCausalLM)
    asked = [prompt for prompt in prompts() for _ in range(per_prompt)]
    return [
        sample
        for start in range(0, len(asked), 480)
        for sample in _complete(asked[start : start + 480], tokenizer, model)
    ]


def _load(folder: Path, kind: Any) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return tokenizer, model.eval()


def _complete(asked: list[str], tokenizer: Any, model: Any) -> Iterator[Sample]:
    inputs = tokenizer(asked, padding=True, return_tensors="pt")
    new = {"max_new_tokens": 80, "do_sample": True, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
    rows = model.generate(**inputs, **new)[:, inputs["input_ids"].shape[1] :]
    for prompt, row in zip(asked, rows, strict=True):
        kept = row[row != tokenizer.pad_token_id]
        text = tokenizer.decode(kept, skip_special_tokens=True)
        yield Sample(prompt, text, len(kept), bool(kept[-1] == tokenizer.eos_token_id))


def report_lm(samples: list[Sample]) -> None:
    lengths = sorted(sample.tokens for sample in samples)
    known = sum(is_review(s.prompt, s.completion) for s in samples)
    print(f"samples {len(samples)}, in the grammar word for word {known / len(samples):.2%}")
    print(f"ended {sum(s.ended for s in samples) / len(samples):.2%}", end=", tokens ")
    within = sum(n <= 50 for n in lengths) / len(lengths)
    print(f"mean {sum(lengths) / len(lengths):.1f}, max {lengths[-1]}, within 50 {within:.2%}")
    for bit, rate in (("absurd", HUMOR_RATE), ("favourable", POSITIVE_RATE)):
        _report_rates(samples, bit, rate)


def _report_rates(samples: list[Sample], bit: str, rate: float) -> None:
    shown = defaultdict(list)
    for sample in samples:
        value = getattr(labels(sample.completion), bit)
        if value is not None:
            shown[kind_of(sample.prompt)].append(value)
            shown[""].append(value)
    rates = {kind: sum(values) / len(values) for kind, values in shown.items()}
    overall = rates.pop("")
    worst = max(rates, key=lambda kind: abs(rates[kind] - rate))
    print(f"{bit}: {overall:.4f} (true {rate}); worst kind {worst} {rates[worst]:.4f}")
    print("  " + ", ".join(f"{kind} {value:.3f}" for kind, value in sorted(rates.items())))


def report_reward(name: str, count: int = 4000) -> None:
    tokenizer, model = _load(REWARDS[name], AutoModelForSequenceClassification)
    rng = Random(1)
    drawn = [review(rng) for _ in range(count)]
    values = score([r.prompt + r.completion for r in drawn], tokenizer, model)
    truth = torch.tensor([getattr(r, BITS[name]) for r in drawn])
    for label in (0, 1):
        v = values[truth == bool(label)]
        print(f"{name} {model.config.id2label[label]}: logit mean {v.mean():.4f}", end=" ")
        print(f"sd {v.std():.4f} min {v.min():.4f} max {v.max():.4f}")


@torch.no_grad()
def score(texts: list[str], tokenizer: Any, model: Any) -> torch.Tensor:
    """The logit of label 1 of each text."""
    parts = []
    for start in range(0, len(texts), 200):
        batch = tokenizer(
            texts[start : start + 200],
            padding=True,
            truncation=True,
            max_length=512,
            return_tensors="pt",
        )
        parts.append(model(**batch).logits[:, 1])
    return torch.cat(parts)


if __name__ == "__main__":
    main()
