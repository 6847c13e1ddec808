"""The mean negative log-likelihood of whole texts under a causal model, by one forward pass."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from exptilt.models.batching import Budget, in_batches
from exptilt.models.device_queue import alone
from exptilt.models.forward import log_norms, logits_of, not_finite
from exptilt.models.tokenization import encode, last_tokens, marks, positions, refuse_unknown

LOGITS_BUDGET = {"cpu": 2**26, "cuda": 2**30}  # numbers of one batch's logits


class TextNLL(NamedTuple):
    """The mean NLL in nats per predicted token of a text, None where it has fewer than 2 tokens; and whether
    it is of the text's last tokens alone, since the model takes no more."""

    nll: float | None
    cut: bool


@torch.inference_mode()
def text_nll(
    model: Any, tokenizer: Any, texts: Sequence[str], device: str, special: bool = True
) -> list[TextNLL]:
    """The NLL of each text, batched by length.

    Args:
        model: a causal language model on `device`.
        tokenizer: its tokenizer.
        texts: [S].
        device: where the batches go.
        special: whether a text is opened as tokenization.encode opens it.

    Returns:
        [S], in nats per predicted token.

    Raises:
        LogitsError: where the model's logits are not finite.
    """
    whole = encode(tokenizer, texts, special)
    opening = marks(tokenizer)[0] if special else []
    most = positions(model.config)
    ids = [last_tokens(row, most, opening) for row in whole]
    refuse_unknown(model, ids)
    long = [i for i, row in enumerate(ids) if len(row) > 1]
    vocabulary = model.config.get_text_config().vocab_size
    budget, lock = Budget(LOGITS_BUDGET[torch.device(device).type] // vocabulary, device), alone(model)

    def forward(places: list[int]) -> list[float]:
        with lock:
            return _nll(model, [ids[long[i]] for i in places], device)

    found: list[float | None] = [None] * len(ids)
    for i, nll in zip(long, in_batches([len(ids[i]) for i in long], budget, forward), strict=True):
        if math.isnan(nll):
            raise not_finite(model, texts[i])
        found[i] = nll
    return [TextNLL(nll, len(a) > len(b)) for nll, a, b in zip(found, whole, ids, strict=True)]


def _nll(model: Any, ids: list[list[int]], device: str) -> list[float]:
    width = max(map(len, ids))
    tokens = torch.tensor([row + [row[-1]] * (width - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in ids], device=device)
    logits = logits_of(model, tokens, mask)[:, :-1].float()
    picked = logits.gather(-1, tokens[:, 1:, None])[..., 0] - log_norms(logits)
    total = picked.double().masked_fill(mask[:, 1:] == 0, 0.0).sum(-1)
    means: list[float] = (-total / (mask.sum(-1) - 1)).tolist()
    return means
