"""vLLM's way of drawing, by vLLM's own interpreter; see generate_ways.py, whose requests it answers."""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from vllm import LLM, SamplingParams

LONGEST: Final = 4096  # tokens of a sequence, for which it keeps memory


def measure(llm: LLM, request: dict[str, Any]) -> dict[str, float]:
    """Tokens per second, and the engine process's peak memory so far."""
    sampling = SamplingParams(
        n=request["n"],
        top_k=50,
        max_tokens=request["new"],
        ignore_eos=True,
        stop_token_ids=request["ends"],
        detokenize=False,
    )
    began = time.perf_counter()
    prompts = [{"prompt_token_ids": ids} for ids in request["ids"]]
    found = llm.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - began
    drawn = sum(len(one.token_ids) for each in found for one in each.outputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"tokens/s": drawn / seconds, "tokens": drawn, "seconds": seconds, "peak GiB": peak}


def main() -> None:
    """Answer the requests."""
    folder = sys.argv[2]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    config = json.loads(Path(folder, "config.json").read_text())
    most = min(LONGEST, config.get("max_position_embeddings") or config["n_positions"])
    llm = LLM(folder, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=most, seed=0)
    measure(llm, {"ids": [[7, 8, 9]], "n": 2, "new": 2, "ends": []})
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(llm, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
