"""Draws by the run's own server of vLLM: prompts go there as tokens, as exptilt's own loop would see them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import PLAIN, Prompt, text_of
from exptilt.engines.base import P0, Sample
from exptilt.engines.openai import Asking, OpenAIEngine
from exptilt.engines.vllm.server import SERVED_NAME, Server, started
from exptilt.errors import ModelError, ServerError
from exptilt.models.chat_template import rendered
from exptilt.models.loading import load_tokenizer
from exptilt.models.tokenization import completions, encode
from exptilt.run import current

AT_ONCE: Final = 256  # requests in flight; vLLM batches what it has memory for
ENCODED: Final = 4096  # prompts whose tokens are kept
T = TypeVar("T")


class VllmEngine:
    """y ~ p0(.|x) by vLLM on one device.

    The server belongs to the run and is started at its first draw there, or anew where it has died; an
    engine may be of several runs, and holds none of them.
    """

    def __init__(self, p0: P0, device: str) -> None:
        self.p0, self.device, self.notes = p0, device, dict[str, Any]()
        self.tokenizer = load_tokenizer(p0.model)
        self.tokens = functools.lru_cache(maxsize=ENCODED)(self._tokens)
        self._engines: WeakKeyDictionary[Server, OpenAIEngine] = WeakKeyDictionary()

    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """See base.Engine; `batch_size` requests are in flight at once.

        Raises:
            ModelError: the server does not start, or cannot draw from p0.
            ServerError: it died meanwhile; another try starts it anew.
        """
        return self._asked(lambda engine: engine.draw(prompts, seeds, batch_size or AT_ONCE))

    def extend(
        self,
        prompts: Sequence[Prompt],
        begun: Sequence[Sequence[int]],
        seeds: NDArray[np.int64],
        batch_size: int,
    ) -> list[Sample]:
        """See base.Continuing; the server's numbers begin anew with the rest. Raises as draw."""
        rests = self._asked(lambda engine: engine.rests(prompts, begun, seeds, batch_size or AT_ONCE))
        whole = [_joined(start, rest) for start, rest in zip(begun, rests, strict=True)]
        kept = [(sample.tokens or [])[: sample.n_tokens] for sample in whole]
        texts = completions(self.tokenizer, [self.tokens(prompt, "") for prompt in prompts], kept)
        return [sample._replace(completion=text) for sample, text in zip(whole, texts, strict=True)]

    def shown(self, prompts: Sequence[Prompt], begun: Sequence[Sequence[int]]) -> list[str]:
        """See base.Continuing."""
        return completions(self.tokenizer, [self.tokens(prompt, "") for prompt in prompts], begun)

    def _asked(self, work: Callable[[OpenAIEngine], T]) -> T:
        """What `work` gets of the run's server on this device."""
        server = current().owned(
            (self.p0.vllm, self.p0.model, self.p0.dtype, self.device),
            lambda: started(self.p0, self.device),
            lambda server: not server.has_ended,
        )
        try:
            engine = self._engine(server)
            found = work(engine)
        except ServerError as error:
            if server.has_ended:
                raise ServerError(server.death) from error
            raise
        self.notes = dict(engine.notes)
        return found

    def _engine(self, server: Server) -> OpenAIEngine:
        if server not in self._engines:
            model = replace(self.p0.model, source=f"{server.root}#{SERVED_NAME}")
            plain = replace(self.p0, model=model, chat="", template=PLAIN)  # prompts come rendered
            ends = {"stop_token_ids": list(self.p0.ends)}
            asking = Asking(key=server.key, written=self.tokens, more=ends, retries=1, device=self.device)
            self._engines[server] = OpenAIEngine(plain, asking)
        return self._engines[server]

    def _tokens(self, prompt: Prompt, more: str) -> list[int]:
        """What the model sees of a prompt that is continued with `more`."""
        chat = bool(self.p0.chat)
        text = rendered(self.tokenizer, [prompt], self.p0.template)[0] if chat else text_of(prompt)
        return encode(self.tokenizer, [text + more], special=not chat)[0]


def _joined(begun: Sequence[int], rest: Sample) -> Sample:
    """A completion of its first tokens and the rest, its text still the latter's."""
    if rest.tokens is None:
        raise ModelError("vLLM gives no token ids, which --refine needs: use another version of it")
    tokens = [*begun, *rest.tokens]
    return rest._replace(tokens=tokens, n_tokens=len(begun) + rest.n_tokens, logprob=None)
