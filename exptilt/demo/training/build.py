"""Build the demo anew: prompts, tokenizers, language model and reward models, all from one seed.

    python -m exptilt.demo.training.build

takes 17 minutes on two cores, writes model/, humor/, positive/ and prompts.txt beside this
file, and prints the losses, then a short check: the language model's rates beside the grammar's,
the reward models' logits for each class, and the size on disk.
"""

import json
import shutil
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import torch

from exptilt.demo import MODEL, PROMPTS, REWARDS
from exptilt.demo.training import architectures, check, train
from exptilt.demo.training.grammar import HUMOR_RATE, POSITIVE_RATE, prompts, review

SEED: Final = 20240
LM_DESCENTS: Final = ((3200, 32, 1.0), (800, 96, 0.4))  # steps, reviews a step, scale of rates
REWARD_STEPS: Final = 1200
BITS: Final = {
    "humor": ("absurd", HUMOR_RATE, {0: "plain", 1: "absurd"}),
    "positive": ("favourable", POSITIVE_RATE, {0: "negative", 1: "positive"}),
}


def main() -> None:
    torch.set_num_threads(2)
    PROMPTS.write_text("\n".join(prompts()) + "\n", encoding="utf-8")
    rng = Random(SEED)
    texts = [r.prompt + r.completion for r in (review(rng) for _ in range(30_000))]
    for name in REWARDS:
        build_reward(name, texts)
    build_lm(texts)
    check.main()


def build_lm(texts: list[str]) -> None:
    torch.manual_seed(SEED)
    tokenizer = architectures.lm_tokenizer(texts)
    model = architectures.new_lm(tokenizer)
    for i, (steps, batch, scale) in enumerate(LM_DESCENTS, start=1):
        losses = train.lm_losses(model, tokenizer, Random(SEED + i), batch)
        train.fit(model, losses, steps, train.lm_optimizers(model, scale), f"model, descent {i}")
    _save(MODEL, model, tokenizer)


def build_reward(name: str, texts: list[str]) -> None:
    torch.manual_seed(SEED)
    bit, rate, names = BITS[name]
    tokenizer = architectures.reward_tokenizer(texts)
    model = architectures.new_reward(tokenizer, names)
    draw = partial(train.graded_texts, Random(SEED + 2), tokenizer, bit, rate, 64)
    losses = train.reward_losses(model, tokenizer, draw)
    train.fit(model, losses, REWARD_STEPS, [train.adam(model.parameters(), rate=2e-3)], name)
    _save(REWARDS[name], model, tokenizer)


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
        if path.suffix == ".json":
            _tidy(path)


def _tidy(path: Path) -> None:
    """Drop what names a place or is left of training; name a tokenizer class that 4.x has, too."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in ("_name_or_path", "name_or_path", "is_local", "backend"):
        content.pop(key, None)
    if path.name == "tokenizer.json":
        content.update(truncation=None, padding=None)
    if "tokenizer_class" in content:
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    indent = None if path.name == "tokenizer.json" else 2
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
