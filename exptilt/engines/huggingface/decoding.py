"""Drawing token by token: one prefill per prompt whose cache serves its N samples, or the library's own way.

Shapes: B prompts in the batch, N samples of each, R = B·N rows, T prompt positions (left-padded),
V vocabulary.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from exptilt.engines.base import P0
from exptilt.engines.huggingface.prefills import Prefill
from exptilt.engines.huggingface.token_choice import DRAWN, choose, prompt_likelihood
from exptilt.models.forward import logits_of
from exptilt.run import current

Tensor = torch.Tensor
Stopped = Callable[[Tensor], Tensor]
Begun = Sequence[Sequence[int]]  # the ids that completions have already [R][*]; none where it is empty
Chosen = Callable[[Tensor, Tensor], Tensor]
Drew = Callable[[int], None]
PAD: Final = 0  # fills rows that have ended; any token would do
LOOKS: Final = {"cpu": 1, "cuda": 8}  # steps between looks at what has ended, for which a GPU is waited
KEPT: Final = 0.75  # of the rows: when so few go on, the others are dropped


@dataclass(slots=True, kw_only=True)
class Rows:
    """What a batch gave, per row.

    Tokens [R, max_new_tokens], how many of them were drawn, their count without the end token, whether an end
    token or a stop text came, log p0 as sampled, and the raw model's log-likelihood of prompt + completion,
    the end token not counted. A log-probability is NaN where any logits on the way to the row's end were not
    finite. `fixed` [R, max_new_tokens] are the tokens that it began with, else DRAWN; `ends` the end tokens.
    """

    ends: Tensor
    fixed: Tensor
    tokens: Tensor
    drawn: Tensor
    counts: Tensor
    ended: Tensor
    logprob: Tensor
    raw: Tensor


def decode(
    prefill: Prefill,
    seeds: Tensor,
    p0: P0,
    stopped: Stopped | None,
    kept: str,
    drew: Drew = lambda _: None,
    begun: Begun = (),
) -> Rows:
    """Draw N completions of each of B prompts.

    Args:
        prefill: the prompts behind the model.
        seeds: int64 [B, N], on the model's device.
        p0: how a token is drawn, and what ends a text.
        stopped: says of tokens [R, steps] which rows hold a stop text.
        kept: how the prompts' caches serve their rows, one of BY_STEPS.
        drew: is told now and then how many tokens were drawn since.
        begun: what the completions have already. It goes through the model token by token with what others
            draw, so that they are the numbers of the draw that it came from.

    Returns:
        The B·N rows, prompt by prompt.

    Raises:
        Stopped: when the run is asked to stop.
    """
    n, flat = seeds.shape[1], seeds.reshape(-1)
    stepper, logits = copy.copy(prefill.stepper), prefill.logits.repeat_interleave(n, 0)
    rows, steps = _rows(prefill.raw, n, p0, begun), p0.max_new_tokens
    live = torch.arange(len(flat), device=seeds.device)
    drawn, looks = 0, LOOKS[seeds.device.type]
    with stepper.fork(n, steps, kept):
        for step in range(steps):
            token = _take(rows, live, logits, flat, step, p0, stopped)
            if step + 1 == steps:
                break
            if (step + 1) % looks == 0:
                drawn = _say(drew, rows, drawn)
                prompts, going = unfinished(rows.ended[live].view(-1, n))
                if not len(going):
                    break
                if len(going) < len(live):
                    stepper.select(prompts, going)
                    live, token, n = live[going], token[going], len(going) // len(prompts)
            logits = stepper.next_logits(token.masked_fill(rows.ended[live], PAD))
    _say(drew, rows, drawn)
    return rows


def decode_plainly(
    model: Any,
    ids: list[list[int]],
    seeds: Tensor,
    p0: P0,
    stopped: Stopped | None,
    cached: bool,
    drew: Drew = lambda _: None,
    begun: Begun = (),
) -> Rows:
    """As decode, for prompts of one length, whose rows go through the model on their own from the first token
    on: by the library's `generate`, which keeps every kind of cache, or without a cache."""
    n, flat = seeds.shape[1], seeds.reshape(-1)
    prompts = torch.tensor(ids, device=seeds.device)
    mask = torch.ones_like(prompts)
    raw = prompt_likelihood(logits_of(model, prompts, mask), prompts, mask)
    rows = _rows(raw, n, p0, begun)
    live = torch.arange(len(flat), device=seeds.device)

    def drawn(tokens: Tensor, scores: Tensor) -> Tensor:
        before = rows.drawn.sum()
        token = _take(rows, live, scores, flat, tokens.shape[1] - prompts.shape[1], p0, stopped)
        drew(int(rows.drawn.sum() - before))
        return token.masked_fill(rows.ended, PAD)

    feed = by_library if cached else without_cache
    feed(model, prompts.repeat_interleave(n, 0), p0.max_new_tokens, drawn, lambda: rows.ended)
    return rows


def without_cache(model: Any, tokens: Tensor, most: int, chosen: Chosen, ended: Callable[[], Tensor]) -> None:
    """As by_library, by a pass over all tokens at each step."""
    for _ in range(most):
        token = chosen(tokens, logits_of(model, tokens, torch.ones_like(tokens))[:, -1])
        if bool(ended().all()):
            break
        tokens = torch.cat([tokens, token[:, None]], 1)


def by_library(model: Any, tokens: Tensor, most: int, chosen: Chosen, ended: Callable[[], Tensor]) -> None:
    """Let the library feed `model` up to `most` more tokens.

    Args:
        model: a causal language model.
        tokens: ids [R, T] to go on from.
        most: new tokens at most.
        chosen: gives the next tokens [R] for all tokens so far and their logits [R, V].
        ended: says which rows [R] have ended; the work ends when all have.
    """

    def only(so_far: Tensor, scores: Tensor) -> Tensor:
        token = chosen(so_far, scores)
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)

    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=most, do_sample=False, pad_token_id=PAD, use_cache=True
        ),
        logits_processor=LogitsProcessorList([only]),
        stopping_criteria=StoppingCriteriaList([lambda *_, **__: ended()]),
    )


def _rows(raw: Tensor, n: int, p0: P0, begun: Begun) -> Rows:
    """Rows of which nothing is drawn, n for each prompt with its log-likelihood `raw` [B]."""
    raw = raw.repeat_interleave(n)
    fixed = torch.full((len(raw), p0.max_new_tokens), DRAWN)
    for row, ids in enumerate(begun):
        fixed[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    fixed = fixed.to(raw.device)
    return Rows(
        ends=torch.tensor(p0.ends, device=raw.device, dtype=torch.long),
        fixed=fixed,
        tokens=torch.full_like(fixed, PAD),
        drawn=torch.zeros_like(raw, dtype=torch.long),
        counts=torch.zeros_like(raw, dtype=torch.long),
        ended=torch.zeros_like(raw, dtype=torch.bool),
        logprob=torch.zeros_like(raw),
        raw=raw,
    )


def _say(drew: Drew, rows: Rows, before: int) -> int:
    """How many tokens the rows have, those beyond `before` told."""
    drawn = int(rows.drawn.sum())
    drew(drawn - before)
    return drawn


def unfinished(ended: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts and rows to go on with, from what has `ended` [B, N]: all, unless dropping what has ended
    leaves at most KEPT of the rows. Every prompt keeps equally many, those that go on first."""
    going = (~ended).sum(1)
    prompts, most = going.nonzero()[:, 0], int(going.max())
    if len(prompts) * most > KEPT * ended.numel():
        prompts, most = torch.arange(len(ended), device=ended.device), ended.shape[1]
    first = ended.int().argsort(dim=1, stable=True)[:, :most].sort(1).values
    return prompts, (prompts[:, None] * ended.shape[1] + first[prompts]).flatten()


def _take(
    rows: Rows, live: Tensor, logits: Tensor, seeds: Tensor, step: int, p0: P0, stopped: Stopped | None
) -> Tensor:
    """Choose the token of every row in `live` at `step`, and book it on those that had not ended."""
    current().check()
    before, fixed = rows.ended[live], rows.fixed[live, step]
    token, logp, raw = choose(logits, seeds[live], step, p0, fixed)
    drawn = fixed == DRAWN
    ended = before | torch.isin(token, rows.ends) & drawn
    rows.logprob[live] += logp.masked_fill(before, 0.0)
    rows.raw[live] += raw.masked_fill(ended, 0.0)
    rows.drawn[live] += (~before & drawn).long()
    rows.counts[live] += (~ended).long()
    rows.tokens[live, step] = token.masked_fill(before, PAD)
    if stopped is not None:
        ended |= stopped(rows.tokens[live, : step + 1]) & drawn
    rows.ended[live] |= ended
    return token
