"""Whether a model is causal: its numbers at a token must not depend on what follows it, which is tried.

Shapes: two prompts, two rows of each (R = 4), S more tokens, V vocabulary.
"""

from typing import Any, Final

import torch

from exptilt.errors import ModelError
from exptilt.models.device_queue import alone, in_turn
from exptilt.models.forward import logits_of
from exptilt.models.tokenization import embeddings, encode
from exptilt.shared import once_each

Tensor = torch.Tensor
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


@once_each
def check_continues(model: Any, words: tuple[int, ...], device: str) -> None:
    """Try whether later tokens leave the logits of earlier ones as they are.

    Args:
        model: a language model.
        words: token ids to try it with.
        device: where it lies.

    Raises:
        ModelError: where it is not causal.
    """
    lock = alone(model)

    def tried() -> None:
        with lock:
            exact_logits(model, *trial_tokens(model, words))

    in_turn(device, tried)


def trial_tokens(model: Any, words: tuple[int, ...]) -> tuple[list[list[int]], Tensor]:
    """Two prompts, and the tokens [R, S] that follow them."""
    prompts = [list(words[: LENGTHS[0]]), list(words[LENGTHS[0] : sum(LENGTHS)])]
    return prompts, torch.tensor(words[sum(LENGTHS) :], device=model.device).view(4, MORE)


def exact_logits(model: Any, prompts: list[list[int]], more: Tensor) -> Tensor:
    """Logits behind each prompt and each row's tokens, a row at a time and without a cache.

    Args:
        model: a causal language model.
        prompts: token ids [R][*].
        more: the tokens [R, S] that follow.

    Returns:
        Logits [R, S + 1, V].

    Raises:
        ModelError: where the model is not causal.
    """
    exact = torch.stack([_alone(model, prompts[row // 2], more[row]) for row in range(4)])
    _check_causal(model, exact)
    return exact


def _alone(model: Any, prompt: list[int], more: Tensor) -> Tensor:
    """Logits [S + 1, V] behind a prompt and behind each token of a row."""
    tokens = torch.tensor([[*prompt, *more.tolist()]], device=model.device)
    return logits_of(model, tokens, torch.ones_like(tokens))[0, len(prompt) - 1 :].float()


def _check_causal(model: Any, exact: Tensor) -> None:
    """Raise ModelError where the logits behind a prompt depend on what follows it."""
    if any(distance(exact[row, 0], exact[row + 1, 0]) > NOISE * bound(model.dtype) for row in (0, 2)):
        raise ModelError(
            f"base model {model.name_or_path!r} ({type(model).__name__}) is not a causal language model: its "
            "numbers at a token depend on the tokens behind it"
        )


def bound(dtype: torch.dtype) -> float:
    return AGREE.get(dtype, AGREE_NARROW)


def distance(found: Tensor, exact: Tensor) -> float:
    """The mean distance of logits, as a share of the exact ones' spread. Those that are not finite are left
    out where both have them: the draw itself says at which prompt."""
    kept = exact.isfinite()
    if not torch.equal(found.isfinite(), kept):
        return torch.inf
    if torch.equal(found[kept], exact[kept]):
        return 0.0
    return float((found[kept] - exact[kept]).abs().mean() / exact[kept].std())
