"""The contract of an engine: completions y ~ p0(.|x), each from a seed of its own.

An engine's draw depends on the prompt and the sample's seed alone, not on what else is in the batch.
P prompts, N samples per prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from exptilt.models import TOY, ModelRef

FINISH_REASONS: Final = ("stop", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class P0:
    """What defines p0: the weights, their type, and how a token is drawn from their logits.

    `chat` is the digest of the chat template that prompts are rendered by, "" where they go in as they are.
    """

    model: ModelRef
    dtype: str
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    chat: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes p0 and nothing else: a part of every sample's content key."""
        return {
            **self.model.identity,
            "dtype": self.dtype,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            **({"chat": self.chat} if self.chat else {}),
        }


class Sample(NamedTuple):
    """One completion.

    `n_tokens` counts its tokens without the end token; `finish_reason` is one of FINISH_REASONS.
    `logprob` is log p0(y|x) as sampled, in nats, the end token included where one was drawn; `nll`
    is the mean negative log-likelihood per predicted token of prompt + completion under the model
    without temperature or truncation. None where the engine cannot say. `rescored` says that nll
    took a forward pass of its own, since the text tokenizes otherwise than it was drawn.
    """

    completion: str
    n_tokens: int
    finish_reason: str
    logprob: float | None
    nll: float | None
    rescored: bool = False


class Engine(Protocol):
    """Draws completions of prompts.

    `notes` is what is known of the draw once it is done, for the manifest of the samples.
    """

    notes: dict[str, Any]

    def draw(self, prompts: Sequence[str], seeds: NDArray[np.int64], batch_size: int) -> list[list[Sample]]:
        """Samples [P][N] for `prompts` [P] and `seeds` [P, N].

        At most `batch_size` sequences are decoded at once; 0 lets the engine choose.
        """
        ...


_loading = Lock()


def load(p0: P0, device: str) -> Engine:
    """The engine that draws from `p0` on `device`, made once per process."""
    with _loading:
        return _load(p0, device)


@lru_cache(maxsize=16)
def _load(p0: P0, device: str) -> Engine:
    if p0.model.source == TOY:
        from exptilt.engines.toy import ToyEngine

        return ToyEngine(p0)
    if p0.model.is_served:
        from exptilt.engines.openai import OpenAIEngine

        return OpenAIEngine(p0)
    from exptilt.engines.transformers import TransformersEngine

    return TransformersEngine(p0, device)
