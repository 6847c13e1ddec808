"""Servers of completions on loopback: a small real model behind vLLM's manners, answers made to fail, and
`transformers serve` itself."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import torch
from processes import free_port, process, wait_until

from exptilt.conversation import PLAIN, Prompt, of_dicts
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.toy import truncate
from exptilt.models import reference
from exptilt.models.chat_template import rendered
from exptilt.models.loading import causal_model, load_tokenizer
from exptilt.models.tokenization import encode

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
    transformers engine's, the request's seed the sample's; token ids and log-probabilities, of at most `most`
    tokens, are said as vLLM says them in its `mode`, if it `says` any."""

    def __init__(
        self, folder: str, heeds: bool = True, most: int = 20, mode: str = "raw_logprobs", says: bool = True
    ) -> None:
        self.ref, self.heeds, self.asked = reference.checkpoint(folder), heeds, 0
        self.most, self.mode, self.says = most, mode, says
        self.lock = threading.Lock()
        self.engine = cache(partial(TransformersEngine, device="cpu"))

    def __call__(self, path: str, body: dict) -> Answer:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "org/small", "object": "model"}]}
        in_chat = path == "/v1/chat/completions"
        if path != "/v1/completions" and not in_chat:
            return 404, {"detail": "Not Found"}
        if body["model"] != "org/small":
            said = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": said, "type": "NotFoundError", "code": 404}}
        length = 0 if in_chat else len(body["prompt"])
        if length > 40:
            return bad_request(f"This model's maximum context length is 40 tokens, not {length}.")
        top = body.get("top_logprobs", 0) if in_chat else body.get("logprobs", 0)
        if self.says and top > self.most:
            said = f"Requested sample logprobs of {top}, which is greater than max allowed: {self.most}"
            return bad_request(said)
        return 200, self._draw(body, in_chat, top)

    def _text(self, prompt: str | list[int]) -> str:
        """A prompt that came as a text, or as ids, of which each is a letter."""
        is_text = isinstance(prompt, str)
        return prompt if is_text else load_tokenizer(self.ref).decode(prompt, skip_special_tokens=True)

    def _draw(self, body: dict, in_chat: bool, top: int) -> dict:
        law = P0(
            model=self.ref,
            dtype="float32",
            temperature=body["temperature"],
            top_k=max(body["top_k"], 0) if self.heeds else 0,
            top_p=body["top_p"],
            max_new_tokens=body["max_tokens"],
            chat="own" if in_chat else "",
            ends=(0,),
            stop=tuple(body.get("stop", ())),
        )
        prompt = of_dicts(body["messages"]) if in_chat else self._text(body["prompt"])
        with self.lock:
            self.asked += 1
            seed = body["seed"] if self.heeds else self.asked
            sample = self.engine(law).draw([prompt], np.array([[seed]]), 0)[0][0]
            said = completion(sample.completion, len(sample.tokens), sample.finish_reason)
            choice = said["choices"][0]
            by_text = len(sample.completion) < sample.n_tokens  # a token is a letter
            choice["stop_reason"] = body["stop"][0] if by_text else None
            if in_chat:
                choice["message"] = {"role": "assistant", "content": choice.pop("text")}
            if self.says:
                Numbers(law, prompt, sample.tokens, self.mode).put(said, body, top)
        return said


def bad_request(said: str) -> Answer:
    """A refusal as vLLM writes it."""
    return 400, {"error": {"message": said, "type": "BadRequestError", "code": 400}}


class Numbers:
    """What vLLM says of a prompt's and a completion's tokens, by one forward pass."""

    def __init__(self, law: P0, prompt: Prompt, tokens: list[int], mode: str) -> None:
        tokenizer = load_tokenizer(law.model)
        text = rendered(tokenizer, [prompt], PLAIN)[0] if law.chat else prompt
        self.ids, self.tokens = encode(tokenizer, [text], special=not law.chat)[0], tokens
        whole = torch.tensor([self.ids + tokens])
        logits = causal_model(law.model, "cpu", "float32")(whole).logits[0].detach().double()
        self.raw = logits if "logits" in mode else logits.log_softmax(-1)
        self.drawn = self.raw[len(self.ids) - 1 : -1]
        if mode == "processed_logprobs":
            self.drawn = torch.from_numpy(np.array([truncate(row, law) for row in self.drawn.numpy()]))
        if mode == "scaled_logprobs":  # SGLang's
            self.drawn = (self.drawn / law.temperature).log_softmax(-1)

    def put(self, said: dict, body: dict, top: int) -> None:
        """Write into an answer what its request asks for."""
        choice, in_chat = said["choices"][0], "messages" in body
        of_prompt = said if in_chat else choice
        if body.get("return_token_ids"):
            choice["token_ids"], of_prompt["prompt_token_ids"] = self.tokens, self.ids
        if "prompt_logprobs" in body:
            rows = zip(self.ids[1:], self.raw, strict=False)
            own = [{str(t): {"logprob": row[t].item(), "rank": 1, "decoded_token": "a"}} for t, row in rows]
            of_prompt["prompt_logprobs"] = [None, *own]
        if body.get("logprobs"):
            drawn = zip(self.drawn, self.tokens, strict=True)
            steps = [_step(row, token, top, in_chat) for row, token in drawn]
            choice["logprobs"] = {"content": steps} if in_chat else _columns(steps)


def _step(row: torch.Tensor, token: int, top: int, in_chat: bool) -> dict:
    """The token drawn, and behind it in the list the likeliest; a chat's list has `top` in all."""
    likeliest = dict.fromkeys([token, *row.topk(min(top, len(row))).indices.tolist()])
    listed = [{"token": f"token_id:{t}", "logprob": max(row[t].item(), -9999.0)} for t in likeliest]
    return {**listed[0], "top_logprobs": listed[:top] if in_chat else listed}


def _columns(steps: list[dict]) -> dict:
    """What a chat's answer says of tokens, in the form of completions."""
    return {
        "tokens": [step["token"] for step in steps],
        "token_logprobs": [step["logprob"] for step in steps],
        "top_logprobs": [{top["token"]: top["logprob"] for top in step["top_logprobs"]} for step in steps],
    }


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
