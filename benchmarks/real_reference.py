"""What transformers alone says of a chat model: its draws, and how likely draws are.

P prompts, N samples of each, T tokens; a draw is a list of token ids, its end token last where it has one.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

Conversation = list[dict[str, str]]
Draws = list[list[list[int]]]  # [P][N][T]
TOP_K: Final = 50
AT_ONCE: Final = 10  # prompts in a batch of generate
NEW: Final = 32  # tokens of a completion, at most


class Law(NamedTuple):
    """Draws of P prompts against p0, sums over each prompt's samples and tokens, [P] each, in nats.

    Attributes:
        logp: log p0 of the tokens.
        excess: the same, less its expectation at every step, which p0's own distribution there gives.
        variance: of `excess`, where the draws are p0's: steps are uncorrelated, so it is the sum of theirs.
        tokens: how many there are.
    """

    logp: NDArray[np.float64]
    excess: NDArray[np.float64]
    variance: NDArray[np.float64]
    tokens: NDArray[np.float64]

    @property
    def z(self) -> float:
        """The excess in its own exact standard deviations: 0 in expectation, 1 in spread for p0's draws."""
        return float(self.excess.sum() / np.sqrt(self.variance.sum()))

    def by_prompt(self, nsamples: int) -> NDArray[np.float64]:
        """Log p0 per token and the length in tokens of every prompt's samples, [P, 2]."""
        return np.stack([self.logp / self.tokens, self.tokens / nsamples], axis=1)


class Reference:
    """A checkpoint in float32, drawn from at temperature 1 and top-k."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def _encoded(self, asked: list[Conversation]) -> Any:
        texts = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")

    @torch.inference_mode()
    def draw(self, asked: list[Conversation], n: int) -> Draws:
        """N draws of every prompt by `generate`."""
        torch.manual_seed(0)
        blocks = [asked[first : first + AT_ONCE] for first in range(0, len(asked), AT_ONCE)]
        return [drawn for block in blocks for drawn in self._draws(block, n)]

    def _draws(self, asked: list[Conversation], n: int) -> Draws:
        law = {"do_sample": True, "temperature": 1.0, "top_k": TOP_K, "top_p": 1.0, "max_new_tokens": NEW}
        inputs = self._encoded(asked)
        found = self.model.generate(**inputs, num_return_sequences=n, **law)
        rows = [self._ended(row) for row in found[:, inputs.input_ids.shape[1] :].tolist()]
        return [rows[first : first + n] for first in range(0, len(rows), n)]

    def _ended(self, row: list[int]) -> list[int]:
        end = self.model.generation_config.eos_token_id
        return row[: row.index(end) + 1] if end in row else row

    @torch.inference_mode()
    def law(self, asked: list[Conversation], drawn: Draws) -> Law:
        """How likely `drawn` are, all of whose tokens are to be among the top-k."""
        sums = [self._law(*pair) for pair in zip(asked, drawn, strict=True)]
        return Law(*np.array(sums, np.float64).T)

    def _law(self, conversation: Conversation, rows: list[list[int]]) -> list[float]:
        prompt, most = self._encoded([conversation]).input_ids[0].tolist(), max(map(len, rows))
        inputs = torch.tensor([prompt + row + [0] * (most - len(row)) for row in rows])
        logits = self.model(inputs, logits_to_keep=most + 1).logits[:, :-1]
        top = logits.topk(TOP_K).values.double()
        total = top.logsumexp(-1)
        logp = logits.gather(2, inputs[:, -most:, None])[:, :, 0].double() - total
        likely = top - total[:, :, None]
        mean = (likely.exp() * likely).sum(-1)
        variance = (likely.exp() * likely**2).sum(-1) - mean**2
        real = torch.tensor([[t < len(row) for t in range(most)] for row in rows])
        return [float((each * real).sum()) for each in (logp, logp - mean, variance, torch.ones(most))]
