"""One token of each row from its logits, drawn exactly, and what its likelihood is.

Shapes: R rows, B prompts, T prompt positions (left-padded), V vocabulary.
"""

from typing import Final

import torch

from exptilt.engines.base import P0
from exptilt.models.forward import log_norms
from exptilt.rng import uniform

Tensor = torch.Tensor
DRAWN: Final = -1  # in the place of a token that is to be drawn
COLUMNS: Final = 4096  # of a vocabulary laid out in rows
LEAST: Final = 16  # columns for each that is sought; for fewer, topk alone is as fast
AT_ONCE: Final = 4  # rows, whose logits a core's cache holds
SMALLEST: Final = torch.finfo(torch.float32).tiny  # a temperature that float32 does not take for 0


def choose(
    logits: Tensor,
    seeds: Tensor,
    place: int,
    p0: P0,
    fixed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token per row: temperature, then top_k, then top_p; Gumbel-max over the kept tokens is exact.

    Args:
        logits: [R, V].
        seeds: int64 [R].
        place: how many tokens came before in each completion.
        p0: how a token is drawn.
        fixed: token ids [R] that stand there already, DRAWN where one is to be drawn; everywhere if None.

    Returns:
        Token ids, log p0 as sampled of what was drawn, their raw log-likelihood; each [R]. Both numbers are
        NaN where logits hold NaN or +Inf, or nothing but -Inf: topk takes NaN for the largest.
    """
    all_tokens = logits.shape[-1]
    kept, tokens = largest(logits, min(p0.top_k or all_tokens, all_tokens))
    kept = kept.float()
    logp = ((kept - kept[:, :1]) / max(p0.temperature, SMALLEST)).log_softmax(-1)
    if p0.top_p < 1:
        p = logp.exp()
        logp = logp.masked_fill(p.cumsum(-1) - p >= p0.top_p, -torch.inf).log_softmax(-1)
    noise = -torch.log(-torch.log(uniform(seeds[:, None], place, tokens)))
    pick = (logp + noise).argmax(-1, keepdim=True)
    token = tokens.gather(-1, pick)
    if fixed is not None:
        token = token.where(fixed[:, None] == DRAWN, fixed[:, None])
    raw = log_likelihood(logits, token, kept[:, :1])
    return token[:, 0], logp.gather(-1, pick)[:, 0].double(), raw.double()


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of `logits` [R, V] and their places, in falling order, as topk gives them.

    A CPU looks at the largest of each of COLUMNS columns first: what is sought lies in k of them.
    """
    deep = logits.shape[-1] // COLUMNS
    if logits.device.type != "cpu" or deep < 2 or k > COLUMNS // LEAST:
        return logits.topk(k)
    table = logits[:, : deep * COLUMNS]
    columns = table.view(-1, deep, COLUMNS).amax(1).topk(k).indices[:, None]
    below = torch.arange(0, deep * COLUMNS, COLUMNS)[:, None]
    rest = torch.arange(deep * COLUMNS, logits.shape[-1]).expand(len(logits), -1)
    places = torch.cat([(columns + below).flatten(1), rest], -1)
    kept, among = logits.gather(-1, places).topk(k)
    return kept, places.gather(-1, among)


def log_likelihood(logits: Tensor, tokens: Tensor, most: Tensor) -> Tensor:
    """log softmax(logits) [R] at `tokens` [R, 1] in float32, `most` [R, 1] being the largest logits; on a CPU
    a few rows at a time, which its caches hold."""
    at_once = AT_ONCE if logits.device.type == "cpu" else len(logits)
    parts = zip(torch.split(logits, at_once), torch.split(most, at_once), strict=True)
    sums = torch.cat([rows.to(torch.float32, copy=True).sub_(top).exp_().sum(-1) for rows, top in parts])
    return (logits.gather(-1, tokens).float() - most)[:, 0] - sums.log()


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
