"""What drawing costs: the research code, generate on batches, generate_batch, vLLM and ours, side by side.

python benchmarks/generate.py                    on a CPU: the shapes of GPT-2, SmolLM2-135M and Qwen3-0.6B
python benchmarks/generate.py --device cuda      OPT-1.3B's and Qwen3-0.6B's

Random weights, prompts of 8 to 40 random tokens, n samples of 50 new tokens each, top-k 50. The research
code takes one prompt at a time in float32; all others compute in bfloat16 where that is faster. Every way
has a process of its own, which loads its model and draws a little before the clock starts; they take turns,
--rounds times, and the medians are compared. `floor` is generate_floor.py's. vLLM for CPUs is installed in
an environment of its own, unless --vllm-python names one that is there; --ways leaves ways out.
--end-every E lets a token end its row once in E tokens.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import real_setup
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from exptilt.models.devices import fast_dtype
from exptilt.process_setup import SPINS

HERE: Final = Path(__file__).parent
WAYS: Final = ("research", "generate", "generate_batch", "vllm", "exptilt", "floor")
NOT_DRAWN: Final = ("exptilt", "floor")
Found = dict[str, list[dict[str, float]]]


def shapes(device: str) -> dict[str, PreTrainedConfig]:
    """The models' shapes, without an end token so that every way draws equally many."""
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
    qwen = Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        **ends,
    )
    if device != "cpu":
        opt = OPTConfig(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, **ends)
        return {"opt-1.3b": opt, "qwen3-0.6b": qwen}
    smol = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        **ends,
    )
    return {"gpt2": GPT2Config(**ends), "smollm2-135m": smol, "qwen3-0.6b": qwen}


def prompts(count: int, shortest: int, longest: int, vocabulary: int) -> list[list[int]]:
    """Random tokens."""
    rng = random.Random(0)
    return [
        [rng.randrange(5, vocabulary) for _ in range(rng.randint(shortest, longest))] for _ in range(count)
    ]


def save_tokenizer(folder: str, size: int) -> None:
    """One whose k-th token is the word tk."""
    words = Tokenizer(WordLevel({f"t{k}": k for k in range(size)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


@contextmanager
def worker(way: str, folder: str, given: argparse.Namespace) -> Iterator["subprocess.Popen[str]"]:
    """A process that draws in one way whenever it is asked to; it is ready when it has said so."""
    script, python, env = _program(way, given)
    command = [python, str(HERE / script), way, folder, given.device]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env={**os.environ, **env}) as process:
        _answer(process)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _program(way: str, given: argparse.Namespace) -> tuple[str, str, dict[str, str]]:
    """A way's script, interpreter and environment."""
    if way == "floor":
        return "generate_floor.py", sys.executable, {}
    if way != "vllm":
        spins = {"GOMP_SPINCOUNT": str(SPINS)} if way == "exptilt" else {}  # as a run sets it
        return "generate_ways.py", sys.executable, spins
    kept = {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    on_cpu = {"VLLM_CPU_KVCACHE_SPACE": "4"} if given.device == "cpu" else {}
    python = given.vllm_python or str(Path(real_setup.vllm()).with_name("python"))
    return "generate_vllm.py", python, {**kept, **on_cpu}


def _answer(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args} ended with exit code {process.wait()}")
    return json.loads(line)


def asked(process: "subprocess.Popen[str]", request: dict[str, Any]) -> dict[str, float]:
    """What a worker measured."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    found: dict[str, float] = _answer(process)
    return found


def main() -> None:
    """Measure every way and print figures and ratios, as JSON."""
    given = _given()
    for name, config in shapes(given.device).items():
        if given.shapes and name not in given.shapes:
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            torch.manual_seed(0)
            made = AutoModelForCausalLM.from_config(config)
            made.to(getattr(torch, fast_dtype(given.device))).save_pretrained(folder)
            del made
            save_tokenizer(folder, config.vocab_size)
            ids = prompts(given.prompts, *given.prompt_tokens, config.vocab_size)
            workers = {way: stack.enter_context(worker(way, folder, given)) for way in given.ways}
            for n in given.n:
                every = config.vocab_size // given.end_every if given.end_every else 0
                request = {"ids": ids, "n": n, "new": given.new, "ends": list(range(every))}
                say(f"{name} n={n}", _rounds(workers, request, given.rounds))


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", nargs="+")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=[8, 40])
    parser.add_argument("--n", type=int, nargs="+", default=[32, 50])
    parser.add_argument("--new", type=int, default=50)
    parser.add_argument("--end-every", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--vllm-python")
    return parser.parse_args()


def _rounds(workers: dict[str, "subprocess.Popen[str]"], request: dict[str, Any], rounds: int) -> Found:
    """What each way measured in each round."""
    found: Found = {way: [] for way in workers}
    for _ in range(rounds):
        for way, process in workers.items():
            found[way].append(asked(process, request))
            print(way, json.dumps(found[way][-1]), file=sys.stderr, flush=True)
    return found


def say(what: str, found: Found) -> None:
    """Print the medians of each way, and ours against the others, round by round."""
    for way, rounds in found.items():
        medians = {key: round(statistics.median(r[key] for r in rounds), 2) for key in rounds[0]}
        print(what, way, json.dumps(medians), flush=True)
    mine = [r["tokens/s"] for r in found.get("exptilt", [])]
    for way, rounds in found.items() if mine else ():
        if way != "exptilt":
            each = sorted(own / other["tokens/s"] for own, other in zip(mine, rounds, strict=True))
            ratio = f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"
            print(what, f"exptilt/{way}", ratio, flush=True)


if __name__ == "__main__":
    main()
