"""A causal model's logits without a cache: what every other way of computing them is held against."""

import inspect
from pathlib import PurePosixPath
from typing import Any, Final

import torch

from exptilt.errors import LogitsError

Tensor = torch.Tensor
ADVICE: Final = {
    torch.float16: "its numbers are too large for the type: use --dtype bfloat16 or float32",
    torch.bfloat16: "try --dtype float32; a checkpoint that fails there, too, is damaged",
}
DAMAGED: Final = "its checkpoint is damaged: fetch or save it anew"


def accepted(model: Any, **arguments: Any) -> dict[str, Any]:
    """Those of `arguments` that the model's forward takes by name."""
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in arguments.items() if name in known}


def logits_of(model: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Logits of one pass over a padded batch.

    Args:
        model: a causal language model.
        tokens: ids [B, T], padded on the right.
        mask: [B, T], 0 at the padding.

    Returns:
        Logits [B, T, V].
    """
    logits: Tensor = model(input_ids=tokens, **accepted(model, attention_mask=mask, use_cache=False)).logits
    return logits


def log_norms(logits: Tensor) -> Tensor:
    """log Σ exp of `logits` [..., V] in float32, NaN where they hold NaN or +Inf."""
    norms = logits.float().logsumexp(-1)
    return norms.masked_fill(norms == torch.inf, torch.nan)


def not_finite(model: Any, prompt: str, place: int | None = None) -> LogitsError:
    """The error of logits that are not finite, computed for a text that begins with `prompt`, the one at
    `place` of a draw."""
    name, kind = PurePosixPath(model.name_or_path).name, str(model.dtype).removeprefix("torch.")
    advice = ADVICE.get(model.dtype, DAMAGED)
    said = f"{name} in {kind} gives logits that are not finite at {prompt[:60]!r}: {advice}"
    return LogitsError(said, place)
