"""What scoring costs, against the research code's way, side by side in one run on the same weights.

python benchmarks/score.py                 on a CPU: GPT-2 small shape twice, DistilBERT, BERT-base
python benchmarks/score.py --device cuda   with the real shapes: GPT-2 large twice, DistilBERT, BERT-base,
                                           OPT-1.3B for perplexity
    --records FILE.json                    real texts (records with prompt and generated)

The research code's way: float32; helpful and harmless one text at a time, coherence, humor and
perplexity one prompt's samples at a time (perplexity text by text). Weights are random; texts without
--records are synthetic, of the lengths of real ones. Both ways take turns; their medians are compared.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

from exptilt.models.reference import resolve
from exptilt.planning.values import resolve_values
from exptilt.rewards import RewardSpec, load
from exptilt.rewards.base import CONVERSATION

N = 16  # samples per prompt
Texts = tuple[list[str], list[str]]


def texts(records: str | None, prompts: int) -> Texts:
    """N completions of each of `prompts` prompts."""
    rng = random.Random(0)
    if records:
        rows = json.loads(Path(records).read_text())
        asked = [r["prompt"] for r in rows]
        answers = [r["generated"][len(r["prompt"]) :] for r in rows]
    else:
        words = [f"w{i}" for i in range(2000)]
        asked = [" ".join(rng.choices(words, k=rng.randint(5, 25))) for _ in range(prompts)]
        answers = [" " + " ".join(rng.choices(words, k=rng.randint(20, 40))) for _ in range(prompts * N)]
    chosen = rng.sample(asked, prompts)
    return [x for x in chosen for _ in range(N)], [rng.choice(answers) for _ in range(prompts * N)]


def tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of GPT-2's kind, trained on the texts."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000, special_tokens=["<e>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<e>", pad_token="<e>", model_max_length=512
    )


def shapes(large: bool) -> dict[str, Callable[[], Any]]:
    """The models' shapes."""
    width = {"n_embd": 1280, "n_layer": 36, "n_head": 20} if large else {}
    gpt2 = GPT2Config(num_labels=1, pad_token_id=0, **width)
    found: dict[str, Callable[[], Any]] = {
        "helpful": lambda: GPT2ForSequenceClassification(gpt2),
        "harmless": lambda: GPT2ForSequenceClassification(gpt2),
        "humor": lambda: DistilBertForSequenceClassification(DistilBertConfig()),
        "coherence": lambda: BertModel(BertConfig()),
    }
    if large:
        opt = OPTConfig(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32)
        found["perplexity"] = lambda: OPTForCausalLM(opt)
    return found


def save(folder: Path, corpus: list[str], large: bool) -> None:
    """Random checkpoints of every shape, with one tokenizer."""
    words = tokenizer(corpus)
    for name, make in shapes(large).items():
        torch.manual_seed(0)
        make().save_pretrained(folder / name)
        words.save_pretrained(folder / name)


def research(name: str, folder: Path, data: Texts, device: str) -> Callable[[], Any]:
    """One value as the research code scores it."""
    auto = {"coherence": AutoModel, "perplexity": AutoModelForCausalLM}
    chosen = auto.get(name, AutoModelForSequenceClassification)
    model = chosen.from_pretrained(folder / name, dtype=torch.float32).to(device).eval()
    words = AutoTokenizer.from_pretrained(folder / name)
    return lambda: RESEARCH[name](model, words, data, device)


def exptilt(name: str, folder: Path, data: Texts, device: str) -> Callable[[], Any]:
    """The same value as ours, nothing kept from one round to the next."""
    reward: Any = load(spec(name, folder, device), device)
    kept = getattr(getattr(reward, "classifier", None), "kept", {})

    def work() -> None:
        kept.clear()
        reward.score(*data, [None] * len(data[0]))

    reward.score(data[0][:N], data[1][:N], [None] * N)
    return work


def one_at_a_time(model: Any, words: Any, data: Texts, device: str) -> None:
    """Helpful and harmless."""
    for x, y in zip(*data, strict=True):
        pair = (CONVERSATION[0] + x + CONVERSATION[1], y.strip())
        model(**words(*pair, return_tensors="pt", truncation=True).to(device)).logits.squeeze().item()


def one_prompt_at_a_time(model: Any, words: Any, data: Texts, device: str) -> None:
    """Humor."""
    for i in range(0, len(data[0]), N):
        batch = [x + y for x, y in zip(data[0][i : i + N], data[1][i : i + N], strict=True)]
        model(**words(batch, padding=True, truncation=True, return_tensors="pt").to(device)).logits.tolist()


def both_sides(model: Any, words: Any, data: Texts, device: str) -> None:
    """Coherence."""
    for i in range(0, len(data[0]), N):
        for side in data:
            batch = words(side[i : i + N], padding=True, truncation=True, return_tensors="pt").to(device)
            model(**batch).pooler_output.cpu()


def text_by_text(model: Any, words: Any, data: Texts, device: str) -> None:
    """Perplexity."""
    for x, y in zip(*data, strict=True):
        batch = words(x + y, return_tensors="pt", truncation=True).to(device)
        model(**batch, labels=batch["input_ids"]).loss.item()


RESEARCH = {
    "helpful": one_at_a_time,
    "harmless": one_at_a_time,
    "humor": one_prompt_at_a_time,
    "coherence": both_sides,
    "perplexity": text_by_text,
}


def seconds(work: Callable[[], Any], device: str) -> float:
    """How long `work` takes once."""
    began = time.perf_counter()
    with torch.inference_mode():
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compare(name: str, folder: Path, data: Texts, given: argparse.Namespace) -> dict[str, float]:
    """Median seconds of both ways for one value, run in turns."""
    ways = {way.__name__: way(name, folder, data, given.device) for way in (research, exptilt)}
    rounds = [{way: seconds(work, given.device) for way, work in ways.items()} for _ in range(given.rounds)]
    found = {way: statistics.median(row[way] for row in rounds) for way in ways}
    for way, took in found.items():
        print(f"{way:9} {name:10} {took:8.2f} s {len(data[0]) / took:8.1f} texts/s", flush=True)
    ratios = sorted(row["research"] / row["exptilt"] for row in rounds)
    print(
        f"{name}: {found['research'] / found['exptilt']:.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f})",
        flush=True,
    )
    return found


def spec(name: str, folder: Path, device: str) -> RewardSpec:
    """The same value as ours."""
    (sample,) = resolve_values(
        [f"{name}={folder / name}"], resolve(name, str(folder / name), ""), device, "auto"
    )
    kind = {"coherence": "coherence", "perplexity": "perplexity"}.get(name, "classifier")
    return RewardSpec(
        value=name,
        kind=kind,  # type: ignore[arg-type]
        model=sample.model,
        dtype=sample.dtype,
        form="pair" if name in ("helpful", "harmless") else "text",
    )


def main() -> None:
    """Score the same texts both ways and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records")
    given = parser.parse_args()
    data, large = texts(given.records, given.prompts), given.device != "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder, [x + y for x, y in zip(*data, strict=True)], large)
        found = [compare(value, folder, data, given) for value in shapes(large)]
    theirs, ours = (sum(row[way] for row in found) for way in ("research", "exptilt"))
    print(f"the set: {theirs / ours:.1f}x")


if __name__ == "__main__":
    main()
