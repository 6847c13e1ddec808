"""A real classifier behind a server on loopback, by vLLM's protocol of /classify, /pooling and /score."""

import threading

import torch
from completions import Answer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MODEL = "org/rm"
ROUTES = ("/classify", "/pooling", "/score")


class Scorer:
    """The checkpoint in `folder`, served as `org/rm`: a request that is not refused is counted in `asked`."""

    def __init__(self, folder: str, routes=ROUTES, heeds: bool = True, limit: int = 200) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.routes, self.heeds, self.limit = routes, heeds, limit
        self.lock, self.bodies = threading.Lock(), []

    @property
    def asked(self) -> int:
        return len(self.bodies)

    def __call__(self, path: str, body: dict) -> Answer:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        if path not in self.routes:
            return 404, {"detail": "Not Found"}
        if body["model"] != MODEL:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if "messages" in body and not self.tokenizer.chat_template:
            return _error(400, "default chat template is no longer allowed")
        with self.lock:
            return self._scored(path, body)

    def _scored(self, path: str, body: dict) -> Answer:
        row = self._row(body)
        if len(row) > self.limit:
            said = f"You passed {len(row)} input tokens, maximum context length is {self.limit} tokens."
            return _error(400, said)
        self.bodies.append(body)
        numbers = self._numbers(row, body).tolist()
        if path == "/score":
            return 200, {"data": [{"index": 0, "object": "score", "score": numbers[0]}]}
        if path == "/pooling":
            assert body["task"] == "classify"
            return 200, {"data": [{"index": 0, "object": "pooling", "data": numbers}]}
        return 200, {"data": [{"index": 0, "label": "x", "probs": numbers, "num_classes": len(numbers)}]}

    def _row(self, body: dict) -> list[int]:
        if "messages" in body:
            return self.tokenizer.apply_chat_template(body["messages"], tokenize=True)["input_ids"]
        texts = [body["input"]] if "input" in body else [body["text_1"], body["text_2"]]
        return self.tokenizer(*texts)["input_ids"]

    @torch.inference_mode()
    def _numbers(self, row: list[int], body: dict) -> torch.Tensor:
        logits = self.model(input_ids=torch.tensor([row])).logits[0]
        if self.heeds and not body.get("use_activation", True):
            return logits
        kind = self.model.config.problem_type
        if kind == "regression":
            return logits
        is_single = len(logits) > 1 and kind != "multi_label_classification"
        return torch.softmax(logits, -1) if is_single else torch.sigmoid(logits)


def _error(status: int, said: str) -> Answer:
    return status, {"error": {"message": said, "type": "Error", "code": status}}
