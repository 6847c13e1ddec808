"""Servers of completions on loopback: a small real model behind vLLM's manners, answers made to fail, and
`transformers serve` itself."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
from processes import free_port, process, wait_until

from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.models import reference

Answer = tuple[int, dict]  # status, JSON; "headers" in it are taken out


@contextlib.contextmanager
def http_server(answer: Callable[[str, dict], Answer]) -> Iterator[str]:
    """An HTTP server that answers by `answer(path, body)`; its API's root."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1  # headers and body leave together

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = json.loads(body or "{}") | {"key": self.headers["Authorization"]}
            status, said = answer(self.path, asked)
            headers = said.pop("headers", {})
            data = json.dumps(said).encode()
            with contextlib.suppress(ConnectionError):  # a client that has given up
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str, tokens: int, reason: str = "length") -> dict:
    """A completion as servers write it."""
    choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    return {"id": "1", "object": "text_completion", "created": 0, "model": "m"} | {
        "choices": [choice],
        "usage": usage,
    }


class Small:
    """The checkpoint in `folder`, served under the name `org/small` as vLLM would: its draws are the
    transformers engine's, the request's seed the sample's."""

    def __init__(self, folder: str, heeds: bool = True) -> None:
        self.ref, self.heeds, self.asked = reference.checkpoint(folder), heeds, 0
        self.lock = threading.Lock()

    def __call__(self, path: str, body: dict) -> Answer:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "org/small", "object": "model"}]}
        if path != "/v1/completions":
            return 404, {"detail": "Not Found"}
        if body["model"] != "org/small":
            said = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": said, "type": "NotFoundError", "code": 404}}
        if len(body["prompt"]) > 40:
            said = f"This model's maximum context length is 40 tokens, not {len(body['prompt'])}."
            return 400, {"error": {"message": said, "type": "BadRequestError", "code": 400}}
        return 200, self._draw(body)

    def _draw(self, body: dict) -> dict:
        law = P0(
            model=self.ref,
            dtype="float32",
            temperature=body["temperature"],
            top_k=max(body["top_k"], 0) if self.heeds else 0,
            top_p=body["top_p"],
            max_new_tokens=body["max_tokens"],
            ends=(0,),
            stop=tuple(body.get("stop", ())),
        )
        with self.lock:
            self.asked += 1
            seed = body["seed"] if self.heeds else self.asked
            sample = TransformersEngine(law, "cpu").draw([body["prompt"]], np.array([[seed]]), 0)[0][0]
        by_text = len(sample.completion) < sample.n_tokens  # a token is a letter
        ended = sample.finish_reason == "stop" and not by_text
        said = completion(sample.completion, sample.n_tokens + ended, sample.finish_reason)
        said["choices"][0]["stop_reason"] = body["stop"][0] if by_text else None
        return said


@contextlib.contextmanager
def transformers_serve(model: str, log: Path) -> Iterator[str]:
    """`transformers serve` with one model; its API's root with the model behind #."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "transformers"), "serve", model, "--device", "cpu"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

    def answers() -> bool:
        assert running.poll() is None, log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
        return False

    with process([*command, "--host", "127.0.0.1", "--port", str(port)], env, log) as running:
        wait_until(answers)
        yield f"http://127.0.0.1:{port}/v1#{model}"
