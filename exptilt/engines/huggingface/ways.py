"""Which way of drawing is exact for a model: each is tried on ordinary tokens against uncached passes.

`shared`: a prompt's cache serves all of its samples. `copied`: each sample gets a copy. `plain`: the
library's own decoding, prompts of one length together. `uncached`: that, without a cache. Shapes: two
prompts, two rows of each (R = 4), S more tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, Final, Literal

import torch

from exptilt.engines.huggingface.decoding import by_library, without_cache
from exptilt.engines.huggingface.incremental import Stepper
from exptilt.errors import ModelError
from exptilt.models.batching import left_pad
from exptilt.models.device_queue import alone, in_turn
from exptilt.models.forward import logits_of
from exptilt.models.memory import is_exhausted
from exptilt.models.tokenization import embeddings, encode
from exptilt.once import once

Tensor = torch.Tensor
Way = Literal["shared", "copied", "plain", "uncached"]
Found = Iterator[tuple[list[int], int, Tensor]]  # rows, how many tokens they got, and their logits [rows, V]
TEXT: Final = (
    "The committee will meet again on Thursday morning to discuss next year's budget for the library."
)
LENGTHS, MORE = (9, 5), 3  # tokens of the two prompts, and of their rows
AGREE: Final = {torch.float32: 1e-3}  # of the logits' spread; what attends in another way is far off
AGREE_NARROW: Final = 0.1  # bfloat16 alone moves a trained model's logits by some hundredths
NOISE: Final = 3  # so many times more is no noise


def words_of(tokenizer: Any, model: Any) -> tuple[int, ...]:
    """Ordinary tokens to try a model with: special ones can be where its arithmetic is at its worst."""
    size, special = embeddings(model) or 10**9, set(tokenizer.all_special_ids)
    words = [token for token in encode(tokenizer, [TEXT], special=False)[0] if token < size]
    words = [token for token in words if token not in special] or [0]
    return tuple((words * sum(LENGTHS))[: sum(LENGTHS) + 4 * MORE])


@once
def way_of(model: Any, words: tuple[int, ...], device: str) -> Way:
    """The first way whose logits are those of passes without a cache, alone and beside a longer prompt.

    Raises ModelError where none is, or where the model is not causal.
    """
    lock = alone(model)

    def tried() -> Way:
        with lock:
            return _way(model, words)

    return in_turn(device, tried)


def _way(model: Any, words: tuple[int, ...]) -> Way:
    prompts = [list(words[: LENGTHS[0]]), list(words[LENGTHS[0] : sum(LENGTHS)])]
    more = torch.tensor(words[sum(LENGTHS) :], device=model.device).view(4, MORE)
    exact = torch.stack([_alone(model, prompts[row // 2], more[row]) for row in range(4)])
    _check_causal(model, exact)
    for way, trial in TRIALS.items():
        if _agrees(exact, partial(trial, model, prompts, more), model.dtype):
            return way
    raise ModelError(
        f"base model {model.name_or_path!r} ({type(model).__name__}) can't be drawn from: it gives other "
        "numbers beside other texts than alone"
    )


def _alone(model: Any, prompt: list[int], more: Tensor) -> Tensor:
    """Logits [S + 1, V] behind a prompt and behind each token of a row."""
    tokens = torch.tensor([[*prompt, *more.tolist()]], device=model.device)
    return logits_of(model, tokens, torch.ones_like(tokens))[0, len(prompt) - 1 :].float()


def _check_causal(model: Any, exact: Tensor) -> None:
    """Raise ModelError where the logits behind a prompt depend on what follows it."""
    if any(_distance(exact[row, 0], exact[row + 1, 0]) > NOISE * _bound(model.dtype) for row in (0, 2)):
        raise ModelError(
            f"base model {model.name_or_path!r} ({type(model).__name__}) is not a causal language model: its "
            "numbers at a token depend on the tokens behind it"
        )


def _bound(dtype: torch.dtype) -> float:
    return AGREE.get(dtype, AGREE_NARROW)


def _distance(found: Tensor, exact: Tensor) -> float:
    """The mean distance of logits, as a share of the exact ones' spread. Those that are not finite are left
    out where both have them: the draw itself says at which prompt."""
    kept = exact.isfinite()
    if not torch.equal(found.isfinite(), kept):
        return torch.inf
    if torch.equal(found[kept], exact[kept]):
        return 0.0
    return float((found[kept] - exact[kept]).abs().mean() / exact[kept].std())


def _agrees(exact: Tensor, trial: Callable[[], Found], dtype: torch.dtype) -> bool:
    try:
        distances = [_distance(logits.float(), exact[rows, step]) for rows, step, logits in trial()]
    except Exception as error:
        if is_exhausted(error):
            raise
        return False
    if dtype in AGREE:
        return max(distances) <= _bound(dtype)
    return median(distances) <= _bound(dtype)  # rounding may send a token to another expert here and there


def _by_steps(model: Any, prompts: list[list[int]], more: Tensor, shared: bool) -> Found:
    """The prompts in one batch; behind the first token, of each prompt one row is dropped."""
    tokens, mask = left_pad(prompts, None, str(model.device))
    stepper, logits = Stepper.prefill(model, tokens, mask)
    rows = [0, 1, 2, 3]
    yield rows, 0, logits[:, -1].repeat_interleave(2, 0)
    with stepper.fork(2, MORE, shared):
        for step in range(MORE):
            yield rows, step + 1, stepper.next_logits(more[rows, step])
            if step == 0:
                rows = [1, 2]
                stepper.select(*torch.tensor([[0, 1], rows], device=model.device))


def _by_rows(model: Any, prompts: list[list[int]], more: Tensor, feed: Callable[..., None]) -> Found:
    """A prompt after the other, its two rows in one batch."""
    for number, prompt in enumerate(prompts):
        rows, seen = [2 * number, 2 * number + 1], list[Tensor]()

        def chosen(
            tokens: Tensor, scores: Tensor, rows: list[int] = rows, seen: list[Tensor] = seen
        ) -> Tensor:
            seen.append(scores)
            return more[rows, min(len(seen), MORE) - 1]

        both = torch.tensor([prompt, prompt], device=model.device)
        feed(model, both, MORE + 1, chosen, lambda: more.new_zeros(2, dtype=torch.bool))
        yield from ((rows, step, scores) for step, scores in enumerate(seen))


TRIALS: Final[dict[Way, Callable[[Any, list[list[int]], Tensor], Found]]] = {
    "shared": partial(_by_steps, shared=True),
    "copied": partial(_by_steps, shared=False),
    "plain": partial(_by_rows, feed=by_library),
    "uncached": partial(_by_rows, feed=without_cache),
}
