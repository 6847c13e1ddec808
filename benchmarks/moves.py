"""What a move costs, against drawing a sample: a chat model's completions and tails of them, side by side.

python benchmarks/moves.py           SmolLM2-135M-Instruct, 16 prompts × 4 chains × 20 tokens; minutes

Each round draws all samples, then moves each chain: a tail, cut by chance, is drawn anew. The first move of a
batch of prompts sends these through the model, the others find that done. Scoring is left out.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np
import real_setup

from exptilt.config.settings import Original
from exptilt.conversation import Message, Prompt
from exptilt.engines import registry
from exptilt.planning.base_model import p0_of

ASKED: Final = "Write a short and gloomy story about topic {}{}"
MORE: Final = ", and mind that it rains"
HEADER: Final = (
    "| prompt tokens | samples, s | first move, s | a move, s | against samples |\n|---|---|---|---|---|"
)


def main() -> None:
    """A line for each length of prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="a chat model's folder; made if none")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--chains", type=int, default=4, help="of each prompt")
    parser.add_argument("--new", type=int, default=20, help="tokens at most")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    engine = _engine(given.model or real_setup.chat_model(), given.new)
    print(HEADER)
    for longer in (0, 18, 60):
        print(_line(engine, given, longer), flush=True)


def _engine(model: str, new: int) -> Any:
    config = Original(basemodel=model, chat=True, max_new_tokens=new, dtype="bfloat16", device="cpu")
    return registry.load_continuing(p0_of(config, "cpu"), "cpu")


def _line(engine: Any, given: argparse.Namespace, longer: int) -> str:
    asked = [(Message("user", ASKED.format(i, MORE * longer)),) for i in range(given.prompts)]
    samples, first, later = [], [], []
    for number in range(given.rounds):
        drawn, seconds = _timed(lambda: engine.draw(asked, _seeds(given), 0))
        samples.append(seconds)
        chains = [sample.tokens for row in drawn for sample in row]
        for model in engine.prefills:
            model.kept.clear()
        for move in range(3):
            _, seconds = _moved(engine, asked, chains, given.chains, 3 * number + move)
            (later if move else first).append(seconds)
    columns = [median(each) for each in (samples, first, later)]
    tokens = len(engine.tokenizer.apply_chat_template([asked[0][0]._asdict()])["input_ids"])
    return f"| {tokens} | {' | '.join(f'{s:.2f}' for s in columns)} | {columns[2] / columns[0]:.2f} |"


def _moved(engine: Any, asked: list[Prompt], chains: list[list[int]], each: int, number: int) -> Any:
    """A move of all chains, cut by chance, and its seconds."""
    cuts = np.random.default_rng(number)
    begun = [tokens[: cuts.integers(len(tokens))] for tokens in chains]
    prompts = [prompt for prompt in asked for _ in range(each)]
    return _timed(lambda: engine.extend(prompts, begun, np.arange(len(chains)) + len(chains) * number, 0))


def _seeds(given: argparse.Namespace) -> Any:
    return np.arange(given.prompts * given.chains).reshape(given.prompts, given.chains)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


if __name__ == "__main__":
    main()
