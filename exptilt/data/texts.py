"""The text that a model reads and a record shows: the prompt with its completion behind it."""

from collections.abc import Sequence
from typing import Final

import polars as pl

TEXT: Final = pl.col("prompt") + pl.col("completion")


def texts_of(prompts: Sequence[str], completions: Sequence[str]) -> list[str]:
    """The texts [S] of S samples; nothing is put between prompt and completion.

    Args:
        prompts: of the samples, [S].
        completions: of the samples, [S].

    Raises:
        ValueError: where these are not equally many.
    """
    return [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
