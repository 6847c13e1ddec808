"""A reward model behind vLLM against the same checkpoint here: the numbers of completions that were drawn."""

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import exptilt

FORMS: Final = ("text", "chat", "completion", "pair")
NEAR: Final = 1e-4  # of the numbers' spread: float32, summed in another order
STARTS: Final = 300.0  # seconds
HEADER: Final = """\
| a sample as | route | numbers | spread (sd) | largest difference |
|---|---|---|---|---|"""


def reward_model(source: str, folder: Path) -> str:
    """The chat model's body under a head of one label, whose weights are random by a seed."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@contextlib.contextmanager
def served(program: str, folder: str) -> Iterator[str]:
    """The address of vLLM's server of a classifier, as URL#MODEL; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
    told = ["--runner", "pooling", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    place = ["--host", "127.0.0.1", "--port", port, "--served-model-name", "reward"]
    with (
        Path(folder, "server.log").open("wb") as log,
        subprocess.Popen([program, "serve", folder, *told, *place], stdout=log, stderr=log) as process,
    ):
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log.name)
            yield f"http://127.0.0.1:{port}/v1#reward"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], health: str, log: str) -> None:
    ends = time.monotonic() + STARTS
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=5):
            return
        time.sleep(0.5)
    raise SystemExit(f"vLLM's server of the reward model does not answer; its log is {log}")


def agreement(program: str, source: str, records: pl.DataFrame, folder: Path) -> bool:
    """Whether a served reward model gives its checkpoint's numbers in every form; prints a table.

    Args:
        program: vLLM's.
        source: the chat model's folder.
        records: conversations with the completions that were drawn.
        folder: for what is made on the way.
    """
    checkpoint = reward_model(source, folder / "reward")
    with served(program, checkpoint) as address:
        named = {"there": address, "here": checkpoint}
        values = [f"{form}_{way}={name}:{form}" for form in FORMS for way, name in named.items()]
        settings = {"device": "cpu", "dtype": "float32", "save_directory": folder}
        scored = exptilt.score(file=records, value=values, output=folder / "scored.jsonl", **settings)
    print(HEADER)
    return all([_agrees(form, scored.records) for form in FORMS])


def _agrees(form: str, table: pl.DataFrame) -> bool:
    here, there = (table[f"{form}_{way}"].to_numpy() for way in ("here", "there"))
    spread, apart = float(here.std(ddof=1)), float(np.abs(here - there).max())
    route = "/score" if form == "pair" else "/classify"
    print(f"| {form} | {route} | {len(here)} | {spread:.4f} | {apart:.1e} |", flush=True)
    return apart <= NEAR * spread
