"""The decoding loop: one prefill per prompt, its cache shared by N samples, one step per token.

Shapes: B prompts in the batch, N samples of each, R = B·N rows, T prompt positions (left-padded),
V vocabulary, K kept tokens.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch

from exptilt import stop
from exptilt.engines.base import P0
from exptilt.engines.noise import uniform
from exptilt.engines.stepper import Stepper, left_pad, shares

Tensor = torch.Tensor
KEPT: Final = 0.75  # of the rows: when so few go on, the others are dropped


@dataclass(slots=True, kw_only=True)
class Rows:
    """What a batch gave, per row: tokens [R, steps], their count without the end token, whether the
    end token came, log p0 as sampled, and the raw model's log-likelihood of prompt + completion."""

    tokens: Tensor
    counts: Tensor
    ended: Tensor
    logprob: Tensor
    raw: Tensor


def choose(logits: Tensor, seeds: Tensor, step: int, p0: P0) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row from logits [R, V]: token, its log p0, its raw log-likelihood; [R].

    Temperature, then top_k, then top_p; Gumbel-max over the kept tokens draws from softmax exactly.
    """
    all_tokens = logits.shape[-1]
    kept, tokens = logits.topk(min(p0.top_k or all_tokens, all_tokens))
    logp = (kept.float() / p0.temperature).log_softmax(-1)
    if p0.top_p < 1:
        p = logp.exp()
        logp = logp.masked_fill(p.cumsum(-1) - p >= p0.top_p, -torch.inf).log_softmax(-1)
    noise = -torch.log(-torch.log(uniform(seeds[:, None], step, tokens)))
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
    """Raw log-likelihood [B] of each prompt's tokens after its first, from prefill logits [B, T, V]."""
    picked = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0].double()
    norms = logits[:, :-1].float().logsumexp(-1).double()
    return torch.where(mask[:, :-1] * mask[:, 1:] > 0, picked - norms, 0.0).sum(-1)


def decode(model: Any, ids: list[list[int]], seeds: Tensor, p0: P0, ends: list[int], pad: int) -> Rows:
    """Draw N completions of each of B prompts, `ids` [B][*] and `seeds` [B, N] on the model's device.

    `ends` are the end tokens, `pad` fills rows that have ended. Raises Stopped when asked to stop.
    """
    n, flat = seeds.shape[1], seeds.reshape(-1)
    tokens, mask = left_pad(ids, pad, str(seeds.device))
    stepper, logits = Stepper.prefill(model, tokens, mask)
    rows = _rows(prompt_likelihood(logits, tokens, mask).repeat_interleave(n), p0.max_new_tokens, pad)
    logits = logits[:, -1].repeat_interleave(n, 0)
    end_tokens = torch.tensor(ends, device=seeds.device, dtype=torch.long)
    live = torch.arange(len(flat), device=seeds.device)
    with stepper.fork(n, shares(model)):
        for step in range(p0.max_new_tokens):
            stop.check()
            token = _take(rows, live, logits, flat, step, p0, end_tokens)
            prompts, kept = unfinished(rows.ended[live].view(-1, n))
            if step + 1 == p0.max_new_tokens or not len(kept):
                break
            if len(kept) < len(live):
                stepper.select(prompts, kept)
                live, token, n = live[kept], token[kept], len(kept) // len(prompts)
            logits = stepper.next_logits(token.masked_fill(rows.ended[live], pad))
    return rows


def _rows(raw: Tensor, steps: int, pad: int) -> Rows:
    """Rows without tokens, their prompts' log-likelihood `raw` [R]."""
    return Rows(
        tokens=torch.full((len(raw), steps), pad, device=raw.device),
        counts=torch.zeros_like(raw, dtype=torch.long),
        ended=torch.zeros_like(raw, dtype=torch.bool),
        logprob=torch.zeros_like(raw),
        raw=raw,
    )


def unfinished(ended: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts and rows to go on with, from what has `ended` [B, N]: all, unless dropping what has ended
    leaves at most KEPT of the rows. Every prompt keeps equally many, those that go on first."""
    going = (~ended).sum(1)
    prompts, most = going.nonzero()[:, 0], int(going.max())
    if len(prompts) * most > KEPT * ended.numel():
        prompts, most = torch.arange(len(ended), device=ended.device), ended.shape[1]
    first = ended.int().argsort(dim=1, stable=True)[:, :most].sort(1).values
    return prompts, (prompts[:, None] * ended.shape[1] + first[prompts]).flatten()


def _take(rows: Rows, live: Tensor, logits: Tensor, seeds: Tensor, step: int, p0: P0, ends: Tensor) -> Tensor:
    """Choose the token of every row in `live` at `step`, and book it on those that had not ended."""
    token, logp, raw = choose(logits, seeds[live], step, p0)
    before = rows.ended[live]
    ended = before | torch.isin(token, ends)
    rows.ended[live] = ended
    rows.logprob[live] += logp.masked_fill(before, 0.0)
    rows.raw[live] += raw.masked_fill(ended, 0.0)
    rows.counts[live] += (~ended).long()
    rows.tokens[live, step] = token.where(~ended, rows.tokens[live, step])
    return token
