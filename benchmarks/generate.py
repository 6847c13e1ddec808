"""What drawing costs: the research code's way, generate on batches, generate_batch, and ours, in one run.

python benchmarks/generate.py                    on a CPU: GPT-2's shape (124M)
python benchmarks/generate.py --device cuda      OPT-1.3B's and Qwen3-0.6B's shapes

Random weights, prompts of 8 to 40 random tokens, n samples of 50 new tokens each, top-k 50. The research
code takes one prompt at a time in float32; all others compute in bfloat16 where that is faster. Every
way runs in a process of its own; loading and one short warm-up are not timed. The floor of ours is the larger
of two times per step: weights and live cache once through memory at the bandwidth of a large copy, and the
step's multiplications at the rate of a large one, both measured in the same run.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    OPTConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from exptilt.engines.base import P0
from exptilt.engines.huggingface.decoding import decode
from exptilt.engines.huggingface.engine import AUTO_ROWS
from exptilt.engines.huggingface.ways import way_of
from exptilt.models.causality import words_of
from exptilt.models.devices import fast_dtype
from exptilt.models.loading import causal_model, load_tokenizer
from exptilt.models.reference import resolve
from exptilt.storage.keys import seeds_for

NEW, PAD = 50, 0
Ids = list[list[int]]


def shapes(device: str) -> dict[str, PreTrainedConfig]:
    """The models' shapes, without an end token so that every way draws equally many."""
    ends = {"bos_token_id": None, "eos_token_id": None}
    if device == "cpu":
        return {"gpt2": GPT2Config(**ends)}
    opt = OPTConfig(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, **ends)
    qwen = Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        **ends,
    )
    return {"opt-1.3b": opt, "qwen3-0.6b": qwen}


def prompts(count: int, vocabulary: int) -> Ids:
    """Random tokens."""
    rng = random.Random(0)
    return [[rng.randrange(5, vocabulary) for _ in range(rng.randint(8, 40))] for _ in range(count)]


def sampling(n: int, new: int) -> GenerationConfig:
    """As the research code draws."""
    return GenerationConfig(
        do_sample=True,
        top_k=50,
        max_new_tokens=new,
        num_return_sequences=n,
        pad_token_id=PAD,
        eos_token_id=None,
    )


def research(model: Any, ids: Ids, n: int, new: int) -> int:
    """(a) One prompt at a time, float32. All ways give the number of new tokens."""
    drawn = 0
    for row in ids:
        tokens = torch.tensor([row], device=model.device)
        mask = torch.ones_like(tokens)
        out = model.generate(tokens, attention_mask=mask, generation_config=sampling(n, new))
        drawn += out[:, len(row) :].numel()
    return drawn


def batched(model: Any, ids: Ids, n: int, new: int) -> int:
    """(b) generate on batches of about 256 sequences."""
    size, drawn = max(256 // n, 1), 0
    for first in range(0, len(ids), size):
        batch = ids[first : first + size]
        width = max(map(len, batch))
        tokens = torch.tensor([[PAD] * (width - len(row)) + row for row in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in batch], device=model.device)
        out = model.generate(tokens, attention_mask=mask, generation_config=sampling(n, new))
        drawn += out[:, width:].numel()
    return drawn


def continuous(model: Any, ids: Ids, n: int, new: int) -> int:
    """(c) Continuous batching, which forks a prompt's cache among its samples."""
    with torch.inference_mode(False), torch.no_grad():
        found = model.generate_batch(ids, generation_config=sampling(n, new), progress_bar=False)
    return sum(len(row.generated_tokens) for row in found.values())


def ours(model: Any, ids: Ids, n: int, new: int) -> int:
    """(d) The engine's loop, with a seed per sample, log p0 and NLL."""
    ref = resolve("x", model.name_or_path, "model")
    p0 = P0(model=ref, dtype="", temperature=1.0, top_k=50, top_p=1.0, max_new_tokens=new)
    shared = way_of(model, words_of(load_tokenizer(ref), model), str(model.device)) == "shared"
    size, drawn = max(AUTO_ROWS[model.device.type] // n, 1), 0
    for first in range(0, len(ids), size):
        batch = ids[first : first + size]
        seeds = seeds_for(0, [str(row) for row in batch], 0, n)
        rows = decode(model, batch, torch.from_numpy(seeds).to(model.device), p0, None, shared)
        drawn += int(rows.counts.sum())
    return drawn


WAYS: dict[str, Callable[[Any, Ids, int, int], int]] = {
    "research": research,
    "generate": batched,
    "generate_batch": continuous,
    "exptilt": ours,
}


def measure(way: str, folder: str, ids: Ids, n: int, device: str) -> dict[str, float]:
    """Tokens per second and peak GiB of one way."""
    dtype = "float32" if way == "research" else fast_dtype(device)
    if way == "exptilt":
        model = causal_model(resolve("x", folder, "model"), device, dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()
    with torch.inference_mode():
        WAYS[way](model, ids[:1], 2, 2)
        sync(device)
        began = time.perf_counter()
        drawn = WAYS[way](model, ids, n, NEW)
        sync(device)
    seconds = time.perf_counter() - began
    if device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {"tokens/s": drawn / seconds, "tokens": drawn, "seconds": seconds, "peak GiB": peak}


def sync(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def rate(work: Callable[[], Any], device: str, times: int = 10) -> float:
    """Runs per second."""
    work()
    sync(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    sync(device)
    return times / (time.perf_counter() - began)


def floor(folder: str, ids: Ids, n: int, device: str) -> dict[str, float]:
    """Tokens per second at the floor, with its parts; rows as in ours."""
    dtype = getattr(torch, fast_dtype(device))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    weights = sum(p.numel() for p in model.parameters())  # tied embeddings count once
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size
    rows = min(max(AUTO_ROWS[torch.device(device).type] // n, 1), len(ids)) * n
    length = sum(map(len, ids)) / len(ids) + NEW / 2
    width = dtype.itemsize
    moved = torch.empty(2**28 if device == "cpu" else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(moved)
    bandwidth = 2 * moved.numel() * rate(lambda: target.copy_(moved), device)
    side = 2048 if device == "cpu" else 8192
    square = torch.randn(side, side, dtype=dtype, device=device)
    peak = 2 * side**3 * rate(lambda: square @ square, device)
    memory = (weights + per_token * length * rows) * width / bandwidth
    multiply = 2 * weights * rows / peak
    step = max(memory, multiply)
    return {
        "tokens/s": rows / step,
        "GB/s": bandwidth / 1e9,
        "GFLOP/s": peak / 1e9,
        "ms memory": 1e3 * memory,
        "ms multiply": 1e3 * multiply,
    }


def main() -> None:
    """Measure every way and print figures and ratios, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--n", type=int, nargs="+", default=[32, 50])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    given = parser.parse_args()
    for name, config in shapes(given.device).items():
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(Path(folder))
            ids = prompts(given.prompts, config.vocab_size)
            for n in given.n:
                compare(name, folder, ids, n, given)


def compare(name: str, folder: str, ids: Ids, n: int, given: argparse.Namespace) -> None:
    """All ways on one shape and n, each in a process of its own."""
    found = {}
    spawn = multiprocessing.get_context("spawn")
    for way in given.ways:
        with spawn.Pool(1) as pool:
            found[way] = pool.apply(measure, (way, folder, ids, n, given.device))
        print(name, f"n={n}", way, json.dumps(found[way]), flush=True)
    with spawn.Pool(1) as pool:
        least = pool.apply(floor, (folder, ids, n, given.device))
    mine = found["exptilt"]["tokens/s"]
    print(name, f"n={n}", "floor", json.dumps(least), f"ours is {mine / least['tokens/s']:.0%} of it")
    ratios = {way: mine / said["tokens/s"] for way, said in found.items() if way != "exptilt"}
    print(name, f"n={n}", "ours against", json.dumps(ratios), flush=True)


if __name__ == "__main__":
    main()
