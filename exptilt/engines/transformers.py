"""Completions from any causal language model of the transformers library, on one device.

The draw is exact and belongs to (prompt, seed): see decode. What batching can move is the last bits
of a logit, which changes a draw only where two candidates tie to within them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exptilt.engines.base import P0, Sample
from exptilt.engines.chat import rendered
from exptilt.engines.checkpoint import causal_model, encode, load_tokenizer
from exptilt.engines.decode import Rows, decode
from exptilt.engines.likelihood import text_nll
from exptilt.engines.memory import bytes_per_prompt, free_bytes, is_exhausted
from exptilt.engines.stepper import shares
from exptilt.engines.turns import in_turn

AUTO_ROWS = {"cpu": 256, "cuda": 1024}  # more at once is no faster
Block = tuple[list[int], slice]  # places of prompts, and which of their samples


class TransformersEngine:
    """y ~ p0(.|x) by a transformers model."""

    def __init__(self, p0: P0, device: str) -> None:
        self.p0, self.device, self.kind = p0, device, torch.device(device).type
        self.notes: dict[str, Any] = {}
        self.tokenizer = load_tokenizer(p0.model)
        self.model = causal_model(p0.model, device, p0.dtype)
        self.ends = _end_tokens(self.model)
        self.pad = self.ends[0] if self.ends else 0
        self.shared = in_turn(device, lambda: shares(self.model))
        self.memory, self.most = free_bytes(device), math.inf

    @torch.inference_mode()
    def draw(self, prompts: Sequence[str], seeds: NDArray[np.int64], batch_size: int) -> list[list[Sample]]:
        """See base.Engine. Prompts of like length share a batch, halved for good when memory runs out."""
        prompts = rendered(self.tokenizer, prompts) if self.p0.chat else prompts
        ids = encode(self.tokenizer, list(prompts), special=not self.p0.chat)
        _refuse_unknown(self.model, ids)
        found: list[list[Sample]] = [[] for _ in prompts]
        for block in self._blocks(ids, seeds.shape[1], batch_size or AUTO_ROWS[self.kind]):
            for (places, columns), rows in self._decode(block, ids, seeds):
                each = np.repeat(places, columns.stop - columns.start).tolist()
                samples = self._read(rows, [prompts[i] for i in each], [ids[i] for i in each])
                for i, sample in zip(each, samples, strict=True):
                    found[i].append(sample)
        return found

    def _blocks(self, ids: list[list[int]], n: int, most: int) -> Iterator[Block]:
        """What goes together: prompts by length, in at most `most` rows and what memory holds."""
        batch: list[int] = []
        for place in sorted(range(len(ids)), key=lambda i: len(ids[i])):
            room = int(min(most, self.most, self._room(len(ids[place]), n)))
            if batch and (len(batch) + 1) * n > room:
                yield batch, slice(0, n)
                batch = []
            if n > room:
                yield from (([place], slice(k, min(k + room, n))) for k in range(0, n, room))
            else:
                batch.append(place)
        if batch:
            yield batch, slice(0, n)

    def _room(self, length: int, n: int) -> float:
        """Rows, n of a prompt, that fit in memory where prompts have `length` tokens."""
        config, new = self.model.config.get_text_config(), self.p0.max_new_tokens
        one = bytes_per_prompt(config, self.model.dtype.itemsize, length, n, new, self.shared)
        return max(n * self.memory / one, 1)

    def _decode(
        self, block: Block, ids: list[list[int]], seeds: NDArray[np.int64]
    ) -> Iterator[tuple[Block, Rows]]:
        """The block's rows; by halves where memory runs out."""
        places, columns = block
        mine = torch.from_numpy(seeds[places, columns])
        try:
            rows = in_turn(self.device, lambda: self._rows([ids[i] for i in places], mine))
        except Exception as error:
            if mine.numel() == 1 or not is_exhausted(error):
                raise
            rows = None
        if rows:
            yield block, rows
            return
        self.most = mine.numel() // 2
        torch.cuda.empty_cache()
        for half in _halves(places, columns):
            yield from self._decode(half, ids, seeds)

    def _rows(self, ids: list[list[int]], seeds: torch.Tensor) -> Rows:
        return decode(self.model, ids, seeds.to(self.device), self.p0, self.ends, self.pad)

    def _read(self, rows: Rows, prompts: list[str], prompt_ids: list[list[int]]) -> list[Sample]:
        """The rows as samples."""
        counts = rows.counts.tolist()
        new = [row[:n] for row, n in zip(rows.tokens.tolist(), counts, strict=True)]
        completions = self._completions(prompt_ids, new)
        drawn = [a + b for a, b in zip(prompt_ids, new, strict=True)]
        texts = [a + b for a, b in zip(prompts, completions, strict=True)]
        reasons = ["stop" if end else "length" for end in rows.ended.tolist()]
        nlls, rescored = self._nlls(texts, drawn, rows.raw.tolist())
        columns = (completions, counts, reasons, rows.logprob.tolist(), nlls, rescored)
        return [Sample(*row) for row in zip(*columns, strict=True)]

    def _completions(self, prompt_ids: list[list[int]], new: list[list[int]]) -> list[str]:
        """What the new tokens add to the prompt's own decoding (some decoders eat a first space)."""
        before = self._text(prompt_ids)
        after = self._text([a + b for a, b in zip(prompt_ids, new, strict=True)])
        alone = self._text(new)
        return [
            whole[len(start) :] if whole.startswith(start) else text
            for start, whole, text in zip(before, after, alone, strict=True)
        ]

    def _text(self, ids: list[list[int]]) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def _nlls(
        self, texts: list[str], drawn: list[list[int]], raw: list[float]
    ) -> tuple[list[float | None], list[bool]]:
        """Mean NLL per text: from the logits seen while drawing where the text re-tokenizes to the
        tokens drawn, by a forward pass of its own elsewhere; and which texts took one."""
        nlls = [
            -total / (len(ids) - 1) if len(ids) > 1 else None for total, ids in zip(raw, drawn, strict=True)
        ]
        special = not self.p0.chat
        again = encode(self.tokenizer, texts, special)
        differs = [a != b for a, b in zip(again, drawn, strict=True)]
        moved = [i for i, other in enumerate(differs) if other]
        rest = text_nll(self.model, self.tokenizer, [texts[i] for i in moved], self.device, special)
        for i, nll in zip(moved, rest, strict=True):
            nlls[i] = nll
        return nlls, differs


def _halves(places: list[int], columns: slice) -> list[Block]:
    if len(places) > 1:
        middle = len(places) // 2
        return [(places[:middle], columns), (places[middle:], columns)]
    middle = (columns.start + columns.stop) // 2
    return [(places, slice(columns.start, middle)), (places, slice(middle, columns.stop))]


def _refuse_unknown(model: Any, ids: list[list[int]]) -> None:
    """Raise IndexError for a token that the model has no embedding for, which would end a GPU's process."""
    size = model.get_input_embeddings().weight.shape[0]
    most = max(map(max, ids))
    if most >= size:
        raise IndexError(f"token {most} of the tokenizer is beyond the model's {size} embeddings")


def _end_tokens(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        return []
    return [ends] if isinstance(ends, int) else list(ends)
