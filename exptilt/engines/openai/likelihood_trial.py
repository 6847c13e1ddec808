"""What a server says of likelihoods, found by asking: how many tokens' numbers, and whether they are raw.

They are raw where temperature and truncation do not move them. So p0's own steps are tried in an extreme
form, beside none, at the first token of one text.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from exptilt.engines.base import P0
from exptilt.engines.openai.answers import Answer
from exptilt.engines.openai.likelihood import WHOLE, is_enough, is_raw_law
from exptilt.engines.openai.request_body import TEXT_ONLY, Beside

FEW: Final = 3  # of the likeliest tokens, that the second is among them wherever the drawn one is first
COLD: Final = 0.1  # a temperature that moves every number
MOVED: Final = 0.15  # what rounding does not move a raw number by
LEAST: Final = -20.0  # the likeliest of all tokens is likelier, since there are fewer than e^20
NEVER: Final = -1000.0  # how a server writes the logarithm of 0

Ask = Callable[[P0, Beside], Answer]


class Found(NamedTuple):
    """What is asked for beside the text, and why the columns `logprob` and `nll` are null, where they are."""

    beside: Beside
    null: dict[str, str]


def find(ask: Ask, p0: P0, refused: tuple[type[Exception], ...], words: Callable[[Exception], str]) -> Found:
    """What the server says that draws from `p0`.

    Args:
        ask: asks it for a text of some p0.
        p0: the law of the run.
        refused: what `ask` raises where the server does not take what is asked for beside.
        words: the server's own words in such an error.
    """
    plain = replace(p0, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=1, stop=())
    beside, answer, why = _accepted(ask, plain, max(p0.top_k, FEW), refused, words)
    said = f" ({why})" if why else ""
    if answer is None or not answer.own or not answer.tops:
        return _nothing(beside, answer, f"the server gives no log-probabilities{said}")
    moved = _moved(ask, p0, plain, beside, answer.tops[0])
    if moved:
        return _nothing(beside, answer, moved)
    null = {"logprob": _no_logprob(p0, answer.tops[0], said), "nll": _no_nll(p0, answer)}
    top = 1 if null["logprob"] or is_raw_law(p0) else p0.top_k
    return Found(
        beside=Beside(top=top, ids=answer.tokens is not None, prompt=not null["nll"]),
        null={column: reason for column, reason in null.items() if reason},
    )


def _accepted(
    ask: Ask, plain: P0, needed: int, refused: tuple[type[Exception], ...], words: Callable[[Exception], str]
) -> tuple[Beside, Answer | None, str]:
    """What the server takes of what may be asked for, its answer, and why it took no more."""
    tops, why = dict.fromkeys((needed, FEW)), ""
    asked = [Beside(top=top, ids=ids, prompt=ids) for ids in (True, False) for top in tops]
    for beside in (*asked, Beside(ids=True)):
        try:
            return beside, ask(plain, beside), why
        except refused as error:
            why = words(error)
    return TEXT_ONLY, None, why


def _nothing(beside: Beside, answer: Answer | None, why: str) -> Found:
    """That the server gives token ids at most."""
    ids = answer is not None and answer.tokens is not None
    return Found(beside=Beside(ids=beside.ids and ids), null={"logprob": why, "nll": why})


def _moved(ask: Ask, p0: P0, plain: P0, beside: Beside, tops: Sequence[float]) -> str:
    """Why the numbers `tops` of the plain law are not the model's own under p0; "" where they are."""
    is_possible = LEAST < max(tops) < 1 - WHOLE and math.fsum(map(math.exp, tops)) < 2 - WHOLE
    if not is_possible:
        return "the server's numbers are no log-probabilities of the model (it may give logits)"
    if is_raw_law(p0):
        return ""
    temperature = 1.0 if p0.temperature == 1 else COLD
    tried = replace(plain, temperature=temperature, top_k=int(p0.top_k > 0 or p0.top_p < 1))
    again = ask(tried, beside).tops
    if again and min(again[0]) > NEVER and _are_close(again[0], tops):
        return ""
    return "the server gives log-probabilities of the truncated law (vLLM: --logprobs-mode raw_logprobs)"


def _are_close(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the two likeliest of each are alike."""
    pairs = list(zip(sorted(one)[:-3:-1], sorted(other)[:-3:-1], strict=False))
    return len(pairs) == 2 and all(abs(a - b) < MOVED for a, b in pairs)


def _no_logprob(p0: P0, tops: Sequence[float], said: str) -> str:
    """Why log p0 as sampled is not known; "" where it is."""
    if is_raw_law(p0) or is_enough(tops, p0):
        return ""
    if not p0.top_k:
        return "without top-k, temperature and top-p need the probabilities of all tokens"
    return f"it needs log-probabilities of top-k {p0.top_k}, and the server gives {len(tops)}{said}"


def _no_nll(p0: P0, answer: Answer) -> str:
    """Why the likelihood of prompt + completion is not known; "" where it is."""
    if answer.prompt is None:
        return "the server gives no log-probabilities of a prompt's tokens"
    if p0.chat and p0.stop:
        return "the server does not say how it tokenizes a chat's text that --stop cut"
    return ""
