"""Which way of drawing is exact for a model: each is tried on ordinary tokens against uncached passes.

`captured`: on a GPU, as `shared`, a step's operations begun by one call. `shared`: a prompt's cache serves
all of its samples. `copied`: each sample gets a copy. `plain`: the library's own decoding, prompts of one
length together. `uncached`: that, without a cache. Shapes: two prompts, two rows of each (R = 4), S more
tokens, V vocabulary.
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
from exptilt.models.causality import AGREE, MORE, bound, distance, exact_logits, trial_tokens
from exptilt.models.device_queue import alone, in_turn
from exptilt.models.memory import is_exhausted
from exptilt.shared import once_each

Tensor = torch.Tensor
Way = Literal["captured", "shared", "copied", "plain", "uncached"]
Found = Iterator[tuple[list[int], int, Tensor]]  # rows, how many tokens they got, and their logits [rows, V]


@once_each
def way_of(model: Any, words: tuple[int, ...], device: str) -> Way:
    """The first way whose logits are those of passes without a cache, alone and beside a longer prompt.

    Args:
        model: a causal language model.
        words: token ids of ordinary text to try it with.
        device: where it lies.

    Raises:
        ModelError: where no way is right, or the model is not causal.
    """
    lock = alone(model)

    def tried() -> Way:
        with lock:
            return _way(model, words)

    return in_turn(device, tried)


def _way(model: Any, words: tuple[int, ...]) -> Way:
    prompts, more = trial_tokens(model, words)
    exact = exact_logits(model, prompts, more)
    for way, trial in TRIALS.items():
        if way == "captured" and model.device.type != "cuda":
            continue
        if _agrees(exact, partial(trial, model, prompts, more), model.dtype):
            return way
    raise ModelError(
        f"base model {model.name_or_path!r} ({type(model).__name__}) can't be drawn from: it gives other "
        "numbers beside other texts than alone"
    )


def _agrees(exact: Tensor, trial: Callable[[], Found], dtype: torch.dtype) -> bool:
    try:
        distances = [distance(logits.float(), exact[rows, step]) for rows, step, logits in trial()]
    except Exception as error:
        if is_exhausted(error):
            raise
        return False
    if dtype in AGREE:
        return max(distances) <= bound(dtype)
    return median(distances) <= bound(dtype)  # rounding may send a token to another expert here and there


def _by_steps(model: Any, prompts: list[list[int]], more: Tensor, kept: str) -> Found:
    """The prompts in one batch; behind the first token, of each prompt one row is dropped."""
    tokens, mask = left_pad(prompts, str(model.device))
    stepper, logits = Stepper.prefill(model, tokens, mask)
    rows = [0, 1, 2, 3]
    yield rows, 0, logits[:, -1].repeat_interleave(2, 0)
    with stepper.fork(2, MORE, kept):
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
    "captured": partial(_by_steps, kept="captured"),
    "shared": partial(_by_steps, kept="shared"),
    "copied": partial(_by_steps, kept="copied"),
    "plain": partial(_by_rows, feed=by_library),
    "uncached": partial(_by_rows, feed=without_cache),
}
