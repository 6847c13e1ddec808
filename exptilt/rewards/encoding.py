"""Texts as a reward model takes them: tokens, cut to its length where they must be, and padded.

A text that is too long loses its beginning, a pair its first part's beginning: the completion, which
is what is judged, stays. Padding is on the right and masked; whether it moves no number is tried.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from exptilt.conversation import Conversation, as_dicts
from exptilt.errors import RewardError
from exptilt.models.memory import is_exhausted
from exptilt.models.tokenization import positions
from exptilt.rewards.forms import Text

Encoded = dict[str, list[int]]
Numbers = Sequence[Sequence[float]] | NDArray[np.float64]
TRIED: Final = [("The committee will meet again on Thursday",), ("The committee will go home",), ("No",)]
AGREE: Final = {torch.float32: 1e-3}  # of the largest number; what padding or a cache changes is more
AGREE_NARROW: Final = 0.1


class Texts:
    """Encodes texts for one model, by a tokenizer of its own that cuts on the left."""

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self.tokenizer = tokenizer
        self.pad = next((p for p in (config.pad_token_id, tokenizer.pad_token_id) if p is not None), 0)
        self.most = min(positions(config) or 10**9, int(tokenizer.model_max_length))

    def encode(self, texts: Sequence[Text]) -> tuple[list[Encoded], int]:
        """The tokens of each text, and how many texts were cut."""
        if not texts:
            return [], 0
        columns = [list(column) for column in zip(*texts, strict=True)]
        together = self.tokenizer(*columns, verbose=False)
        rows = [{name: together[name][i] for name in together} for i in range(len(texts))]
        long = [i for i, row in enumerate(rows) if len(row["input_ids"]) > self.most]
        for i in long:
            rows[i] = self._cut(texts[i])
        return rows, len(long)

    def encode_conversations(self, conversations: Sequence[Conversation]) -> tuple[list[Encoded], int]:
        """The tokens of each conversation by the tokenizer's template, and how many lost turns.

        One that is too long loses its oldest turns, a user's with its answer, but never a system turn.

        Raises:
            RewardError: it is too long with its last turns alone.
        """
        rows, cut = [], 0
        for conversation in conversations:
            row, left = self._templated(conversation), conversation
            while len(row["input_ids"]) > self.most:
                left = _without_oldest(left)
                row = self._templated(left)
            cut += left != conversation
            rows.append(row)
        return rows, cut

    def _templated(self, conversation: Conversation) -> Encoded:
        encoded = self.tokenizer.apply_chat_template(as_dicts(conversation), tokenize=True, return_dict=True)
        return {name: list(encoded[name]) for name in encoded}

    def _cut(self, text: Text) -> Encoded:
        how: dict[str, Any] = {"max_length": self.most, "verbose": False}
        if len(text) == 1:
            return dict(self.tokenizer(text[0], truncation=True, **how))
        alone = len(self.tokenizer("", text[1], verbose=False)["input_ids"])
        if alone < self.most:
            return dict(self.tokenizer(*text, truncation="only_first", **how))
        return dict(self.tokenizer("", text[1], truncation="only_second", **how))

    def pad_right(self, rows: list[Encoded], device: str) -> dict[str, torch.Tensor]:
        """Tensors [B, T] of a batch."""
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.pad}
        return {
            name: torch.tensor(
                [row[name] + [fill.get(name, 0)] * (width - len(row[name])) for row in rows],
                device=device,
            )
            for name in rows[0]
        }


def _without_oldest(conversation: Conversation) -> Conversation:
    """A conversation without its first user's turn and what answers it; RewardError if it has no other."""
    system = conversation[: conversation[0].role == "system"]
    users = [place for place, message in enumerate(conversation) if message.role == "user"]
    if len(users) < 2:
        raise RewardError(
            f"the last turns of the conversation that ends {conversation[-1].content[-60:]!r} are more than "
            "the reward model takes"
        )
    return (*system, *conversation[users[1] :])


def agrees(found: Callable[[], Numbers], expected: Numbers, dtype: torch.dtype) -> bool:
    """Whether `found` gives the numbers `expected` but for rounding; False where it fails."""
    try:
        numbers, exact = np.asarray(found()), np.asarray(expected)
    except Exception as error:
        if is_exhausted(error):
            raise
        return False
    bound = AGREE.get(dtype, AGREE_NARROW) * max(float(np.abs(exact).max()), 1.0)
    return bool(np.abs(numbers - exact).max() <= bound)
