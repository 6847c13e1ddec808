"""The mean negative log-likelihood of whole texts under a causal model, by one forward pass."""

from collections.abc import Sequence
from typing import Any

import torch

from exptilt.engines.batching import Budget, in_batches
from exptilt.engines.checkpoint import encode

LOGITS_BUDGET = {"cpu": 2**26, "cuda": 2**30}  # numbers of one batch's logits


@torch.inference_mode()
def text_nll(
    model: Any, tokenizer: Any, texts: Sequence[str], device: str, special: bool = True
) -> list[float | None]:
    """Mean NLL in nats per predicted token of each text; None for a text of fewer than 2 tokens.

    `special` as in encode.
    """
    ids = encode(tokenizer, list(texts), special)
    long = [i for i, row in enumerate(ids) if len(row) > 1]
    vocabulary = model.config.get_text_config().vocab_size
    budget = Budget(LOGITS_BUDGET[torch.device(device).type] // vocabulary, device)

    def forward(places: list[int]) -> list[float]:
        return _nll(model, [ids[long[i]] for i in places], device)

    found: list[float | None] = [None] * len(ids)
    for i, nll in zip(long, in_batches([len(ids[i]) for i in long], budget, forward), strict=True):
        found[i] = nll
    return found


def _nll(model: Any, ids: list[list[int]], device: str) -> list[float]:
    width = max(map(len, ids))
    tokens = torch.tensor([row + [row[-1]] * (width - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in ids], device=device)
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    picked = logits.gather(-1, tokens[:, 1:, None])[..., 0] - logits.logsumexp(-1)
    total = (picked.double() * mask[:, 1:]).sum(-1)
    means: list[float] = (-total / (mask.sum(-1) - 1)).tolist()
    return means
