"""What a chat reward model of the Llama family costs: a text at a time, in padded batches, and ours.

python benchmarks/score_chats.py           12 prompts × 16 completions, SmolLM2-135M's shape with one label

Weights are random, in bfloat16 for all three; prompts take some 100 to 200 tokens by the chat template,
completions up to 50. A padded batch holds one prompt's completions. The ways take turns; medians of the
processor's seconds are compared, and the largest difference to a text at a time as a share of its spread.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from score import N, tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from exptilt import rewards
from exptilt.conversation import Message, as_dicts
from exptilt.engines import registry

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
Samples = tuple[list[tuple[Message, ...]], list[str]]
Way = Callable[[], Any]


def samples(prompts: int) -> Samples:
    """N completions of each of `prompts` conversations of one turn."""
    rng, words = random.Random(0), [f"w{i}" for i in range(2000)]
    asked = [(Message("user", " ".join(rng.choices(words, k=rng.randint(50, 100)))),) for _ in range(prompts)]
    answers = [" ".join(rng.choices(words, k=rng.randint(5, 22))) for _ in range(prompts * N)]
    return [x for x in asked for _ in range(N)], answers


def save(folder: Path, data: Samples) -> None:
    """A random reward model with a tokenizer that has a template."""
    words = tokenizer([x[0].content for x in data[0]] + data[1])
    words.chat_template, words.model_max_length = TEMPLATE, 2048
    torch.manual_seed(0)
    LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_labels=1, pad_token_id=0)).save_pretrained(folder)
    words.save_pretrained(folder)


def plain(folder: Path, data: Samples, at_once: int, words: Any) -> Way:
    """The library's way, `at_once` texts in a padded batch."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def work() -> np.ndarray:
        found = []
        for i in range(0, len(data[1]), at_once):
            pairs = zip(data[0][i : i + at_once], data[1][i : i + at_once], strict=True)
            chats = [as_dicts((*x, Message("assistant", y))) for x, y in pairs]
            batch = words.apply_chat_template(chats, padding=True, return_dict=True, return_tensors="pt")
            found += model(**batch).logits[:, 0].tolist()
        return np.array(found)

    return work


def ours(folder: Path, data: Samples) -> Way:
    """The same by exptilt, nothing kept from one round to the next."""
    base = registry.base_model("toy")
    beside = rewards.Beside(base=base, dtype="bfloat16", base_dtype="float32", in_chat=True)
    reward: Any = rewards.load(rewards.resolve(f"tone={folder}:chat", beside), "cpu")
    print(f"exptilt scores by {reward.classifier.way.__name__}", flush=True)

    def work() -> np.ndarray:
        reward.classifier.kept.clear()
        return np.array(reward.score(*data, [None] * len(data[1])).rewards)

    return work


def main() -> None:
    """Measure the three in turns and print their rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    data = samples(given.prompts)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        save(folder, data)
        words = AutoTokenizer.from_pretrained(folder)
        lengths = [len(words.apply_chat_template(as_dicts(x))["input_ids"]) for x in data[0][::N]]
        print(f"prompts of {min(lengths)} to {max(lengths)} tokens", flush=True)
        ways = {"alone": plain(folder, data, 1, words), "padded": plain(folder, data, N, words)}
        compare({**ways, "exptilt": ours(folder, data)}, given.rounds)


def compare(ways: dict[str, Way], rounds: int) -> None:
    """Run every way in turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    numbers = {}
    for _ in range(rounds):
        for name, work in ways.items():
            began = time.process_time()
            numbers[name] = work()
            spent[name].append(time.process_time() - began)
    exact = numbers["alone"]
    for name, seconds in spent.items():
        off = np.abs(numbers[name] - exact).max() / exact.std()
        ratios = [other / own for other, own in zip(seconds, spent["exptilt"], strict=True)]
        middle = statistics.median(seconds)
        print(f"{name:8} {middle:7.2f} s {len(exact) / middle:7.1f} texts/s; exptilt is", end=" ")
        print(f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f}); off by {off:.2f}")


if __name__ == "__main__":
    main()
