"""A program that takes vLLM's command line and speaks its protocol, for a model of eight letters; it starts
in a tenth of a second, with a process of its own as vLLM has them."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LETTERS = "abcdef "
SCRIPT = """#!{python}
import json, sys
sys.path.insert(0, {tests!r})
from vllm_stand_in import main
main({folder!r}, json.loads({manners!r}))
"""


def stand_in(folder: Path, **manners: Any) -> str:
    """The path of such a program.

    Args:
        folder: where it is put, and where it notes what it is started with and asked.
        **manners: how it misbehaves: `says` before it ends at its start; `version`; `slow`, the seconds of a
            completion; `dies`, behind how many completions of the first start, the second, …; `stays` where
            it is asked to end.
    """
    folder.mkdir(exist_ok=True)
    program = folder / "vllm"
    names = {"python": sys.executable, "tests": str(Path(__file__).parent), "folder": str(folder)}
    program.write_text(SCRIPT.format(**names, manners=json.dumps(manners)))
    program.chmod(0o755)
    return str(program)


@cache
def ids_of(model: str) -> dict[str, int]:
    """The ids of letters, as the checkpoint's tokenizer has them."""
    found: dict[str, int] = json.loads(Path(model, "tokenizer.json").read_text())["model"]["vocab"]
    return found


def starts(folder: Path) -> list[dict[str, Any]]:
    """What it was started with, each time: its arguments, its processes, its GPUs, its key."""
    return _noted(folder / "starts.jsonl")


def requests(folder: Path) -> list[dict[str, Any]]:
    """The completions that it was asked for."""
    return _noted(folder / "requests.jsonl")


def _noted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _note(path: Path, what: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(what) + "\n")


def main(folder: str, manners: dict[str, Any]) -> None:
    """`vllm --version` and `vllm serve MODEL --flag value …`."""
    if sys.argv[1:] == ["--version"]:
        print("INFO a line before it\n0.32.0")
        return
    _, model, *flags = sys.argv[1:]
    child = subprocess.Popen(["sleep", "600"])
    started = {
        "model": model,
        "flags": {name: value for name, value in itertools.pairwise([*flags, ""]) if name[0] == "-"},
        "pids": [os.getpid(), child.pid],
        "gpus": os.environ["CUDA_VISIBLE_DEVICES"],
        "key": os.environ["VLLM_API_KEY"],
    }
    _note(Path(folder) / "starts.jsonl", started)
    if "says" in manners:
        sys.exit(manners["says"])
    if manners.get("stays"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    port = int(started["flags"]["--port"])
    ThreadingHTTPServer.request_queue_size = 300
    handler = _handler(Path(folder), model, manners)
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever(0.01)


def _handler(folder: Path, model: str, manners: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    lock, answered, most = threading.Lock(), [], [*manners.get("dies", []), 10**9]
    left = most[min(len(starts(folder)), len(most)) - 1]

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self._is_let_in():
                return
            with lock:
                answered.append(asked)
                _note(folder / "requests.jsonl", asked)
                if len(answered) > left:
                    os._exit(1)
            time.sleep(manners.get("slow", 0))
            self._answer(200, _completion(asked, model))

        def do_GET(self):
            routes = {
                "/health": {},
                "/version": {"version": manners.get("version", "0.32.0")},
                "/v1/models": {"object": "list", "data": [{"id": "p0", "object": "model"}]},
            }
            if self._is_let_in():
                self._answer(200 if self.path in routes else 404, routes.get(self.path, {}))

        def _is_let_in(self) -> bool:
            key = f"Bearer {os.environ['VLLM_API_KEY']}"
            is_let_in = not self.path.startswith("/v1") or self.headers["Authorization"] == key
            if not is_let_in:
                self._answer(401, {"error": "Unauthorized"})
            return is_let_in

        def _answer(self, status, said):
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return Handler


def _completion(asked: dict[str, Any], model: str) -> dict[str, Any]:
    """Letters of the request's seed, the first one alone where top_k is 1, and their ids if asked for."""
    letters = LETTERS[: asked["top_k"] if asked["top_k"] > 0 else None]
    drawn = random.Random(asked["seed"]).choices(letters, k=asked["max_tokens"])
    count = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": len(drawn)}
    choice = {
        "index": 0,
        "text": "".join(drawn),
        "finish_reason": "length",
        "stop_reason": None,
        "logprobs": None,
    }
    if asked.get("return_token_ids"):
        choice["token_ids"] = [ids_of(model)[letter] for letter in drawn]
    return {
        "id": "1",
        "object": "text_completion",
        "created": 0,
        "model": asked["model"],
        "choices": [choice],
        "usage": {**count, "total_tokens": sum(count.values())},
    }
