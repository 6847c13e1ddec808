"""The text that a model reads and a record shows: the prompt with its completion behind it."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from exptilt.conversation import Prompt, joined

TEXT: Final = pl.col("prompt") + pl.col("completion")


def texts_of(prompts: Sequence[Prompt], completions: Sequence[str]) -> list[str]:
    """The texts [S] of S samples; nothing is put between a text and its completion.

    A conversation is read as a transcript, in which the completion is the assistant's turn.

    Args:
        prompts: of the samples, [S].
        completions: of the samples, [S].

    Raises:
        ValueError: where these are not equally many.
    """
    return [joined(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
