"""The contract of an engine: completions y ~ p0(.|x), each from a seed of its own.

An engine's draw depends on the prompt and the sample's seed alone, not on what else is in the batch.
P prompts, N samples per prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import PLAIN, Prompt, Template
from exptilt.models.reference import ModelRef
from exptilt.models.vllm_command import VllmCommand

FINISH_REASONS: Final = ("stop", "length")
Reasoning = Literal["", "keep", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class P0:
    """What defines p0: the weights, their type, how a token is drawn from their logits, and what ends a text.

    `chat` is the digest of the chat template that prompts are rendered by, "" where they go in as they are;
    `template` is how the run fills it in, which the digest covers.
    `ends` are the end tokens, `named_ends` those of them that the model's generation configuration names;
    `stop` are texts before which a completion ends. `reasoning` says what becomes of what a server sets apart
    from the answer, which is the completion: `keep` or `drop`; "" refuses it. `opened` says that of the
    tokenizer's special tokens only those that open a text are put, once. `vllm` is the vLLM that the run
    starts to draw, None where something else does.
    """

    model: ModelRef
    dtype: str
    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    chat: str = ""
    template: Template = PLAIN
    ends: tuple[int, ...] = ()
    named_ends: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    reasoning: Reasoning = ""
    opened: bool = False
    vllm: VllmCommand | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes p0 and nothing else: a part of every sample's content key.

        What came to p0 later stands in it only where it changes the draw, so that older pools stay.
        """
        return {
            **self.model.identity,
            "dtype": self.dtype,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            **({"chat": self.chat} if self.chat else {}),
            **({"ends": list(self.ends)} if self.ends != self.named_ends else {}),
            **({"stop": list(self.stop)} if self.stop else {}),
            **({"reasoning": self.reasoning} if self.reasoning else {}),
            **({"opened": True} if self.opened else {}),
            **(self.vllm.identity if self.vllm else {}),
        }


class Sample(NamedTuple):
    """One completion.

    `n_tokens` counts its tokens without the end token, those of a stop text among them; `finish_reason`
    is one of FINISH_REASONS. `logprob` is log p0(y|x) as sampled, in nats, the end token or the stop text
    included where one was drawn; `nll` is the mean negative log-likelihood per predicted token of prompt +
    completion, as they were drawn and without the end token, under the model without temperature or
    truncation; of the kept text, tokenized anew, where a stop text cut it. None where the engine cannot say.
    `rescored` says that nll took a forward pass of its own, since a stop text cut what was drawn, `cut` that
    it is of the text's last tokens, since all of them are more than the model takes. `tokens` are the ids
    that `logprob` is of: all that were drawn, the end token last where one was drawn, those of a stop text
    among them; the first n_tokens of them are the completion's, up to a stop text. `reasoning` is what came
    before the answer and was set apart from it, if kept. Where p0 has reasoning, `n_tokens` counts its
    tokens, too, and `logprob`, `nll` and `tokens` are None: none of them would be the completion's.
    """

    completion: str
    n_tokens: int
    finish_reason: str
    logprob: float | None
    nll: float | None
    rescored: bool = False
    cut: bool = False
    tokens: list[int] | None = None
    reasoning: str | None = None


class Engine(Protocol):
    """Draws completions of prompts.

    `notes` is what is known of the draw once it is done, for the manifest of the samples.
    """

    notes: dict[str, Any]

    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """Draw N completions of each of P prompts.

        Args:
            prompts: texts, or conversations where p0 has a chat template [P].
            seeds: one for each sample [P, N]; the same seed of the same prompt gives the same sample.
            batch_size: the most sequences decoded at once; 0 lets the engine choose.

        Returns:
            The samples [P][N].

        Raises:
            PromptRefused: the engine cannot draw from one of the prompts, whose place it holds.
            Stopped: the run was asked to stop.
        """
        ...


class Continuing(Engine, Protocol):
    """An engine that also draws the rest of completions of which the first tokens are given."""

    def extend(
        self,
        prompts: Sequence[Prompt],
        begun: Sequence[Sequence[int]],
        seeds: NDArray[np.int64],
        batch_size: int,
    ) -> list[Sample]:
        """Draw the rest of S completions from p0, up to max_new_tokens less what is given.

        A completion that was begun by some of the first `tokens` of a sample, and has the sample's seed, is
        that sample again (Capabilities.goes_on_as_drawn): the k-th token of a completion is drawn by the same
        number wherever it begins.

        Args:
            prompts: of each completion [S].
            begun: the ids of its first tokens [S][*], fewer than all that were drawn of a sample; none draws
                it from the start.
            seeds: one for each completion [S].
            batch_size: as in draw.

        Returns:
            The whole completions [S], what was given among their tokens; `logprob` is None.

        Raises:
            PromptRefused: as draw, at the place in `prompts`.
            Stopped: the run was asked to stop.
        """
        ...

    def shown(self, prompts: Sequence[Prompt], begun: Sequence[Sequence[int]]) -> list[str]:
        """The texts [S] that the first tokens [S][*] of completions are, which have not ended by them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do, known before it is made and without its libraries.

    Attributes:
        has_checkpoint: the base model's configuration and tokenizer can be read: end tokens, context length,
            special tokens, and a dtype that suits the weights and the device.
        is_local: it computes on this machine's devices, in a dtype that the user may choose.
        gives_likelihood: samples have `logprob` and `nll`, and the perplexity of other texts is known.
        finds_likelihood: whether samples have them is found when the engine is made; `null` in its notes says
            why not, by column.
        measures_prompts: a prompt that is too long is known before it is drawn from.
        short_trial: a run of fewer new tokens may be tried in its place; not where each p0 costs requests.
        continues: it is a Continuing, which draws the rest of completions from the ids of their first tokens.
        goes_on_as_drawn: with a sample's seed that is the sample's own rest; else any that p0 gives.
        separates_reasoning: it sets reasoning apart from the answer, where the model's text has both.
        chat: whose chat template renders a prompt: the checkpoint's, the server's own, or "" for none.
    """

    has_checkpoint: bool = False
    is_local: bool = True
    gives_likelihood: bool = True
    finds_likelihood: bool = False
    measures_prompts: bool = True
    short_trial: bool = True
    continues: bool = False
    goes_on_as_drawn: bool = True
    separates_reasoning: bool = False
    chat: Literal["", "checkpoint", "server"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """An engine as the registry lists it.

    Attributes:
        name: what `ModelRef.engine` says of its models.
        can: what it can do.
        base_model: the model that a name means, None where it means none of this engine's.
        load: the engine that draws from a p0 on a device. Libraries are imported here, not before.
    """

    name: str
    can: Capabilities
    base_model: Callable[[str], ModelRef | None]
    load: Callable[[P0, str], Engine]
