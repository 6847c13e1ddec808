"""The mean negative log-likelihood of whole texts under a causal model, by one forward pass."""

from collections.abc import Sequence
from typing import Any

import torch

from exptilt import stop
from exptilt.engines.checkpoint import encode

LOGITS_BUDGET = {"cpu": 2**26, "cuda": 2**29}  # numbers of one batch's logits


@torch.inference_mode()
def text_nll(model: Any, tokenizer: Any, texts: Sequence[str], device: str) -> list[float | None]:
    """Mean NLL in nats per predicted token of each text; None for a text of fewer than 2 tokens."""
    ids = encode(tokenizer, list(texts))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: list[float | None] = [None] * len(ids)
    for places in _batches(order, ids, model, device):
        for place, nll in zip(places, _nll(model, [ids[i] for i in places], device), strict=True):
            found[place] = nll
    return found


def _batches(order: list[int], ids: list[list[int]], model: Any, device: str) -> list[list[int]]:
    """Texts of 2 tokens or more, ordered by length, in batches within the budget."""
    budget = LOGITS_BUDGET[torch.device(device).type] // model.config.get_text_config().vocab_size
    batches: list[list[int]] = []
    for place in (i for i in order if len(ids[i]) > 1):
        if batches and (len(batches[-1]) + 1) * len(ids[place]) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _nll(model: Any, ids: list[list[int]], device: str) -> list[float]:
    stop.check()
    width = max(map(len, ids))
    tokens = torch.tensor([row + [row[-1]] * (width - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in ids], device=device)
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    picked = logits.gather(-1, tokens[:, 1:, None])[..., 0] - logits.logsumexp(-1)
    total = (picked.double() * mask[:, 1:]).sum(-1)
    means: list[float] = (-total / (mask.sum(-1) - 1)).tolist()
    return means
