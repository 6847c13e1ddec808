"""One token of each row from its logits, drawn exactly, and what its likelihood is.

Shapes: R rows, B prompts, T prompt positions (left-padded), V vocabulary.
"""

from typing import Final

import torch

from exptilt.engines.base import P0
from exptilt.models.forward import log_norms
from exptilt.rng import uniform

Tensor = torch.Tensor
SMALLEST: Final = torch.finfo(torch.float32).tiny  # a temperature that float32 does not take for 0


def choose(logits: Tensor, seeds: Tensor, places: Tensor, p0: P0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token per row: temperature, then top_k, then top_p; Gumbel-max over the kept tokens is exact.

    Args:
        logits: [R, V].
        seeds: int64 [R].
        places: int64 [R, 1], how many tokens came before in each completion.
        p0: how a token is drawn.

    Returns:
        Token ids, their log p0 as sampled, their raw log-likelihood; each [R]. Both numbers are NaN where
        logits hold NaN or +Inf, or nothing but -Inf: topk takes NaN for the largest.
    """
    all_tokens = logits.shape[-1]
    kept, tokens = logits.topk(min(p0.top_k or all_tokens, all_tokens))
    kept = kept.float()
    logp = ((kept - kept[:, :1]) / max(p0.temperature, SMALLEST)).log_softmax(-1)
    if p0.top_p < 1:
        p = logp.exp()
        logp = logp.masked_fill(p.cumsum(-1) - p >= p0.top_p, -torch.inf).log_softmax(-1)
    noise = -torch.log(-torch.log(uniform(seeds[:, None], places, tokens)))
    pick = (logp + noise).argmax(-1, keepdim=True)
    token = tokens.gather(-1, pick)
    return token[:, 0], logp.gather(-1, pick)[:, 0].double(), log_likelihood(logits, token).double()


def log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """log softmax(logits) [R] at `tokens` [R, 1] in float32, on a CPU a few rows at a time, which its caches
    hold."""
    at_once = 8 if logits.device.type == "cpu" else len(logits)
    parts = zip(torch.split(logits, at_once), torch.split(tokens, at_once), strict=True)
    return torch.cat([rows.float().log_softmax(-1).gather(-1, chosen)[:, 0] for rows, chosen in parts])


def prompt_likelihood(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Raw log-likelihood of each prompt's tokens after its first.

    Args:
        logits: of the prefill [B, T, V].
        tokens: ids [B, T].
        mask: [B, T], 0 at the padding.

    Returns:
        Nats [B], summed over tokens.
    """
    picked = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0].double()
    norms = log_norms(logits[:, :-1]).double()
    return torch.where(mask[:, :-1] * mask[:, 1:] > 0, picked - norms, 0.0).sum(-1)
