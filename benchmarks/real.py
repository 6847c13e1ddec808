"""A real chat model drawn from in four ways, which must be one law: transformers' generate, exptilt itself, a
server of vLLM, and `--engine vllm`; and a reward model behind vLLM, which must give its checkpoint's numbers.

make real                    # REAL_MODEL=FOLDER and REAL_VLLM=PROGRAM use those that are there

Two tests, each within three standard errors of zero. Every way alone: log p0 of the drawn tokens, less its
expectation at every step, by its exact standard deviation. Every way against generate: the difference, paired
by prompt, of log p0 per token and of the length. Then a tilt by two values must end sound, and numbers of a
reward model must agree within a ten-thousandth of their spread. Exit code 1 where something does not hold.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import real_setup
from numpy.typing import NDArray
from real_reference import NEW, TOP_K, Conversation, Draws, Law, Reference
from real_rewards import agreement

import exptilt
from exptilt.config.settings import Original
from exptilt.engines.vllm.server import SERVED_NAME, started
from exptilt.planning.base_model import p0_of
from exptilt.run import Run

TOPICS: Final = (
    "rain",
    "chess",
    "the sea",
    "bread",
    "a long train journey",
    "owls",
    "the number seven",
    "old maps",
    "glass",
    "learning to swim",
)
TASKS: Final = (
    "Tell me one thing about {}.",
    "Write a short line about {}.",
    "Why do people care about {}?",
    "Ask me a question about {}.",
)
VALUES: Final = """
def brevity(prompts, completions):
    return [-len(completion) / 100 for completion in completions]

def warmth(prompts, completions):
    return [float(completion.count("!")) for completion in completions]
"""
SIGMAS: Final = 3.0
HEADER: Final = """\
| drawn by | z of its own law | log p0 per token | tokens | seconds, starts included |
|---|---|---|---|---|"""


def conversations() -> list[Conversation]:
    """Fifty: four tasks on ten topics, and a second turn under a system's on each topic."""
    asked = [[_turn("user", task.format(topic))] for topic in TOPICS for task in TASKS]
    return asked + [
        [
            _turn("system", "Answer in one sentence."),
            _turn("user", f"Do you know something about {topic}?"),
            _turn("assistant", f"Yes, I know something about {topic}."),
            _turn("user", "Then say it as you would to a child."),
        ]
        for topic in TOPICS
    ]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def by_exptilt(settings: dict[str, Any]) -> Draws:
    """The tokens of a run's samples, prompt by prompt."""
    samples = exptilt.original(**settings).samples
    return samples.group_by("prompt_id", maintain_order=True).agg("tokens")["tokens"].to_list()


def by_a_server(settings: dict[str, Any]) -> Draws:
    """The tokens of a run that knows a server by its address alone."""
    config = Original(**settings)
    others = {name: value for name, value in settings.items() if name not in ("engine", "vllm_command")}
    with Run().entered(), started(p0_of(config, config.device), config.device) as server:
        os.environ["OPENAI_API_KEY"] = server.key
        return by_exptilt({**others, "basemodel": f"{server.root}#{SERVED_NAME}"})


def row(way: str, law: Law, differences: NDArray[np.float64], seconds: float) -> tuple[str, bool]:
    """The table's row of a way, and whether it holds.

    Args:
        way: how it was drawn.
        law: of its draws.
        differences: by prompt, to those of generate: log p0 per token, tokens [P, 2].
        seconds: that it took.
    """
    mean, error = differences.mean(axis=0), differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    cells = " | ".join(f"{m:+.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True))
    holds = abs(law.z) <= SIGMAS and bool((abs(mean) <= SIGMAS * error).all())
    return f"| {way} | {law.z:+.2f} | {cells} | {seconds:.0f} |", holds


def first_row(way: str, law: Law, numbers: NDArray[np.float64], seconds: float) -> tuple[str, bool]:
    """The row of the way that the others are compared to, of its own numbers [P, 2]."""
    logp, tokens = numbers.mean(axis=0)
    line = f"| {way} | {law.z:+.2f} | {logp:.4f} | {tokens:.2f} | {seconds:.0f} |"
    return line, abs(law.z) <= SIGMAS


def drawn_in(
    ways: dict[str, Callable[[], Draws]], reference: Reference, asked: list[Conversation]
) -> dict[str, tuple[Law, float]]:
    """The law of every way's draws, and the seconds that they took."""
    found = {}
    for way, draw in ways.items():
        began = time.perf_counter()
        drawn = draw()
        seconds = time.perf_counter() - began
        found[way] = reference.law(asked, drawn), seconds
        print(f"{way}: {seconds:.0f} s, z {found[way][0].z:+.2f}", file=sys.stderr, flush=True)
    return found


def compared(found: dict[str, tuple[Law, float]], nsamples: int) -> bool:
    """Print the table; whether all of it holds."""
    (first, (law, seconds)), *others = found.items()
    numbers = law.by_prompt(nsamples)
    rows = [first_row(first, law, numbers, seconds)]
    rows += [row(way, law, law.by_prompt(nsamples) - numbers, seconds) for way, (law, seconds) in others]
    print("\n".join([HEADER, *(line for line, _ in rows)]), flush=True)
    return all(holds for _, holds in rows)


def tilted(settings: dict[str, Any], folder: Path) -> bool:
    """Whether a tilt by two values ends sound; prints its summary and two completions."""
    (folder / "values.py").write_text(VALUES)
    values = [f"{folder}/values.py:brevity", f"{folder}/values.py:warmth"]
    result = exptilt.mc_aligned(**settings, value=values, lam=[0.5, 0.5])
    print(result)
    for record in result.records.head(2).iter_rows(named=True):
        print(f"{record['prompt']!r} -> {record['completion']!r}")
    return result.summary.verdict == "sound"


def main() -> None:
    """Draw in four ways, print the table, tilt; exit with 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="a chat model's folder; made if none")
    parser.add_argument("--vllm", default="", help="vLLM's program; installed if none")
    parser.add_argument("--nsamples", type=int, default=8)
    given = parser.parse_args()
    model, program = given.model or real_setup.chat_model(), given.vllm or real_setup.vllm()
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "basemodel": model,
            "data": str(Path(name, "prompts.json")),
            "nsamples": given.nsamples,
            "batch_size": 128,
            "top_k": TOP_K,
            "max_new_tokens": NEW,
            "device": "cpu",
            "dtype": "float32",
            "save_directory": name,
        }
        by_vllm = {"engine": "vllm", "vllm_command": f"{program} --max-model-len 512 --enforce-eager"}
        sys.exit(0 if _all_hold(settings, {**settings, **by_vllm}, Path(name)) else 1)


def _all_hold(settings: dict[str, Any], by_vllm: dict[str, Any], folder: Path) -> bool:
    asked, nsamples = conversations(), settings["nsamples"]
    Path(settings["data"]).write_text(json.dumps([{"messages": each} for each in asked]))
    reference = Reference(settings["basemodel"])
    ways: dict[str, Callable[[], Draws]] = {
        "transformers' generate": lambda: reference.draw(asked, nsamples),
        "exptilt": lambda: by_exptilt(settings),
        "a server of vLLM": lambda: by_a_server(by_vllm),
        "`--engine vllm`": lambda: by_exptilt(by_vllm),
    }
    holds = compared(drawn_in(ways, reference, asked), nsamples)
    holds = tilted(by_vllm, folder) and holds
    program = by_vllm["vllm_command"].split()[0]
    drawn = exptilt.original(**settings).records
    return agreement(program, settings["basemodel"], drawn, folder) and holds


if __name__ == "__main__":
    main()
