"""The decoding loop: one prefill per prompt, its cache shared by N samples, one step per token.

Shapes: B prompts in the batch, N samples of each, R = B·N rows, T prompt positions (left-padded),
V vocabulary, K kept tokens.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from exptilt import stop
from exptilt.engines.base import P0
from exptilt.engines.noise import uniform

Tensor = torch.Tensor


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
    kept, tokens = logits.topk(p0.top_k or logits.shape[-1])
    logp = (kept.float() / p0.temperature).log_softmax(-1)
    if p0.top_p < 1:
        p = logp.exp()
        logp = logp.masked_fill(p.cumsum(-1) - p >= p0.top_p, -torch.inf).log_softmax(-1)
    noise = -torch.log(-torch.log(uniform(seeds[:, None], step, tokens)))
    pick = (logp + noise).argmax(-1, keepdim=True)
    token = tokens.gather(-1, pick)
    raw = kept.gather(-1, pick)[:, 0].float() - log_norm(logits)
    return token[:, 0], logp.gather(-1, pick)[:, 0].double(), raw.double()


def log_norm(logits: Tensor) -> Tensor:
    """log Σ_v exp(logits_v) [R] in float32, on a CPU a few rows at a time, which its caches hold."""
    at_once = 16 if logits.device.type == "cpu" else len(logits)
    parts = torch.split(logits, at_once)
    return torch.cat([rows.float().logsumexp(-1) for rows in parts])


def left_pad(ids: list[list[int]], pad: int, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, T], padded on the left."""
    width = max(map(len, ids))
    tokens = [[pad] * (width - len(row)) + row for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


class Stepper:
    """Feeds a causal model its next tokens, keeping cache, mask and positions in step."""

    def __init__(self, model: Any, tokens: Tensor, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.cache: Any = None
        self.prefill_logits = self._forward(tokens, self.positions)
        self.positions = self.positions[:, -1:]

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        extra = {"position_ids": positions} if self.takes_positions else {}
        out = self.model(
            input_ids=tokens,
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        )
        self.cache = out.past_key_values
        logits: Tensor = out.logits
        return logits

    def fork(self, n: int) -> None:
        """Let every prompt's cache serve n rows."""
        self.cache.batch_repeat_interleave(n)
        self.mask = self.mask.repeat_interleave(n, 0)
        self.positions = self.positions.repeat_interleave(n, 0)

    def next_logits(self, token: Tensor) -> Tensor:
        """Logits [R, V] after `token` [R]."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)
        self.positions = self.positions + 1
        return self._forward(token[:, None], self.positions)[:, -1]


@contextmanager
def one_token_attention(model: Any) -> Iterator[None]:
    """Attend by plain multiplication on a CPU, where the fused kernel takes twice as long for one query;
    not for models that share keys among heads, whose keys plain attention would copy at every step."""
    config, before = model.config.get_text_config(), model.config._attn_implementation
    heads = config.num_attention_heads
    plain = model.device.type == "cpu" and (getattr(config, "num_key_value_heads", None) or heads) == heads
    if plain:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if plain:
            model.set_attn_implementation(before)


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
    stepper = Stepper(model, tokens, mask)
    raw = prompt_likelihood(stepper.prefill_logits, tokens, mask).repeat_interleave(n)
    logits = stepper.prefill_logits[:, -1].repeat_interleave(n, 0)
    stepper.fork(n)
    rows = Rows(
        tokens=torch.full((len(flat), p0.max_new_tokens), pad, device=seeds.device),
        counts=torch.zeros_like(flat),
        ended=torch.zeros_like(flat, dtype=torch.bool),
        logprob=torch.zeros_like(raw),
        raw=raw,
    )
    end_tokens = torch.tensor(ends, device=seeds.device, dtype=torch.long)
    with one_token_attention(model):
        for step in range(p0.max_new_tokens):
            stop.check()
            token = _take(rows, logits, flat, step, p0, end_tokens)
            if step + 1 == p0.max_new_tokens or bool(rows.ended.all()):
                break
            logits = stepper.next_logits(token.masked_fill(rows.ended, pad))
    return rows


def _take(rows: Rows, logits: Tensor, seeds: Tensor, step: int, p0: P0, ends: Tensor) -> Tensor:
    """Choose every row's token at `step` and book it on the rows that have not ended."""
    token, logp, raw = choose(logits, seeds, step, p0)
    alive = ~rows.ended
    rows.logprob += torch.where(alive, logp, 0.0)
    rows.ended |= torch.isin(token, ends)
    going = alive & ~rows.ended
    rows.raw += torch.where(going, raw, 0.0)
    rows.counts += going
    rows.tokens[:, step] = torch.where(going, token, rows.tokens[:, step])
    return token
