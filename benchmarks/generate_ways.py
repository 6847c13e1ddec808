"""Ways of drawing with transformers: python benchmarks/generate_ways.py WAY FOLDER DEVICE.

Reads a request of JSON per line, {"ids": [[…]], "n": …, "new": …, "ends": […]}, and answers each by a line.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import IO, Any, Final

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.models.devices import fast_dtype
from exptilt.models.loading import causal_model
from exptilt.models.reference import resolve
from exptilt.storage.keys import seeds_for

PAD: Final = 0
WARM_UP: Final = {"ids": [[7, 8, 9]], "n": 2, "new": 2, "ends": []}
Request = dict[str, Any]


def sampling(request: Request) -> GenerationConfig:
    """As the research code draws."""
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        top_k=50,
        max_new_tokens=request["new"],
        num_return_sequences=request["n"],
        pad_token_id=PAD,
        eos_token_id=request["ends"] or None,
    )


def research(model: Any, request: Request) -> int:
    """One prompt at a time, float32. All ways give the number of new tokens."""
    drawn = 0
    for row in request["ids"]:
        tokens = torch.tensor([row], device=model.device)
        mask = torch.ones_like(tokens)
        out = model.generate(tokens, attention_mask=mask, generation_config=sampling(request))
        drawn += _drawn(out[:, len(row) :], request)
    return drawn


def batched(model: Any, request: Request) -> int:
    """generate on batches of about 256 sequences."""
    size, drawn, ids = max(256 // request["n"], 1), 0, request["ids"]
    for first in range(0, len(ids), size):
        batch = ids[first : first + size]
        width = max(map(len, batch))
        tokens = torch.tensor([[PAD] * (width - len(row)) + row for row in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in batch], device=model.device)
        out = model.generate(tokens, attention_mask=mask, generation_config=sampling(request))
        drawn += _drawn(out[:, width:], request)
    return drawn


def _drawn(tokens: torch.Tensor, request: Request) -> int:
    """New tokens, the first end token of a row the last of them."""
    ended = torch.isin(tokens, tokens.new_tensor(request["ends"])).int().cumsum(1).cumsum(1)
    return int((ended <= 1).sum())


def continuous(model: Any, request: Request) -> int:
    """Continuous batching, which forks a prompt's cache among its samples."""
    with torch.inference_mode(False), torch.no_grad():
        found = model.generate_batch(request["ids"], generation_config=sampling(request), progress_bar=False)
    return sum(len(row.generated_tokens) for row in found.values())


def ours(model: Any, request: Request) -> int:
    """The engine, with a seed per sample, log p0, NLL and texts."""
    p0 = P0(
        model=resolve("x", model.name_or_path, "model"),
        dtype=str(model.dtype).removeprefix("torch."),
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        max_new_tokens=request["new"],
        ends=tuple(request["ends"]),
    )
    prompts = [" ".join(f"t{token}" for token in row) for row in request["ids"]]
    seeds = seeds_for(0, prompts, 0, request["n"])
    drawn = TransformersEngine(p0, str(model.device)).draw(prompts, seeds, 0)
    return sum(len(sample.tokens or ()) for row in drawn for sample in row)


WAYS: Final[dict[str, Callable[[Any, Request], int]]] = {
    "research": research,
    "generate": batched,
    "generate_batch": continuous,
    "exptilt": ours,
}


def load(way: str, folder: str, device: str) -> Any:
    """The model as the way has it."""
    dtype = "float32" if way == "research" else fast_dtype(device)
    if way == "exptilt":
        return causal_model(resolve("x", folder, "model"), device, dtype)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()


def measure(way: str, model: Any, request: Request) -> dict[str, float]:
    """Tokens per second, and the process's peak memory so far."""
    began = time.perf_counter()
    with torch.inference_mode():
        drawn = WAYS[way](model, request)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - began
    return {"tokens/s": drawn / seconds, "tokens": drawn, "seconds": seconds, "peak GiB": peak}


def answers() -> IO[str]:
    """Standard output for answers alone: what else is written there goes to standard error."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return kept


def main() -> None:
    """Answer the requests."""
    way, folder, device = sys.argv[1:]
    out = answers()
    model = load(way, folder, device)
    measure(way, model, WARM_UP)
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(way, model, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
