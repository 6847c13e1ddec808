"""The least that drawing can take: the larger of two times per step, weights and live cache once through
memory at the bandwidth of a large copy, and the step's multiplications at the rate of a large one.

Answers the requests of generate_ways.py; both rates are measured anew for each.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from generate_ways import answers
from transformers import AutoConfig, AutoModelForCausalLM

from exptilt.engines.huggingface.engine import AUTO_ROWS
from exptilt.models.devices import fast_dtype


def rate(work: Callable[[], Any], device: str, times: int = 10) -> float:
    """Runs per second."""
    work()
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return times / (time.perf_counter() - began)


def bandwidth(device: str) -> float:
    """Bytes per second of a large copy, read and written."""
    moved = torch.empty(2**28 if device == "cpu" else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(moved)
    return 2 * moved.numel() * rate(lambda: target.copy_(moved), device)


def multiplication(dtype: torch.dtype, device: str) -> float:
    """Operations per second of a large product."""
    side = 2048 if device == "cpu" else 8192
    square = torch.randn(side, side, dtype=dtype, device=device)
    return 2 * side**3 * rate(lambda: square @ square, device)


def floor(config: Any, weights: int, request: dict[str, Any], device: str) -> dict[str, float]:
    """Tokens per second at the floor, with its parts; rows as in ours."""
    dtype, n, ids = getattr(torch, fast_dtype(device)), request["n"], request["ids"]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size
    prompts = min(max(AUTO_ROWS // n, 1), len(ids))
    live = prompts * sum(map(len, ids)) / len(ids) + prompts * n * request["new"] / 2
    moved, product = bandwidth(device), multiplication(dtype, device)
    memory = (weights + per_token * live) * dtype.itemsize / moved
    multiply = 2 * weights * prompts * n / product
    return {
        "tokens/s": prompts * n / max(memory, multiply),
        "GB/s": moved / 1e9,
        "GFLOP/s": product / 1e9,
        "ms memory": 1e3 * memory,
        "ms multiply": 1e3 * multiply,
    }


def main() -> None:
    """Answer the requests."""
    _, folder, device = sys.argv[1:]
    out, config = answers(), AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        weights = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(floor(config, weights, json.loads(line), device)), file=out, flush=True)


if __name__ == "__main__":
    main()
