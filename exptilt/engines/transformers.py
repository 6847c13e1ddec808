"""Completions from any causal language model of the transformers library, on one device.

The draw is exact and belongs to (prompt, seed): see decode. What batching can move is the last bits
of a logit, which changes a draw only where two candidates tie to within them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exptilt.engines.base import P0, Sample
from exptilt.engines.checkpoint import causal_model, encode, load_tokenizer
from exptilt.engines.decode import Rows, decode
from exptilt.engines.likelihood import text_nll
from exptilt.engines.turns import in_turn

AUTO_ROWS = {"cpu": 256, "cuda": 1024}
PREFILL_BUDGET = {"cpu": 2**26, "cuda": 2**29}  # numbers of one prefill's logits


class TransformersEngine:
    """y ~ p0(.|x) by a transformers model."""

    def __init__(self, p0: P0, device: str) -> None:
        self.p0, self.device, self.kind = p0, device, torch.device(device).type
        self.tokenizer = load_tokenizer(p0.model)
        self.model = causal_model(p0.model, device, p0.dtype)
        self.ends = _end_tokens(self.model)
        self.pad = self.ends[0] if self.ends else 0

    @torch.inference_mode()
    def draw(self, prompts: Sequence[str], seeds: NDArray[np.int64], batch_size: int) -> list[list[Sample]]:
        """See base.Engine. Prompts of like length share a batch."""
        rows = batch_size or AUTO_ROWS[self.kind]
        ids = encode(self.tokenizer, list(prompts))
        found: list[list[Sample]] = [[] for _ in prompts]
        for first in range(0, seeds.shape[1], rows):
            block = seeds[:, first : first + rows]
            for places in self._batches(ids, rows // block.shape[1]):
                for place, samples in self._draw_batch(places, prompts, ids, block):
                    found[place] += samples
        return found

    def _batches(self, ids: list[list[int]], most: int) -> Iterator[list[int]]:
        """Places of the prompts that go together: by length, within the rows and prefill budgets."""
        vocabulary = self.model.config.get_text_config().vocab_size
        batch: list[int] = []
        for place in sorted(range(len(ids)), key=lambda i: len(ids[i])):
            room = PREFILL_BUDGET[self.kind] // (vocabulary * len(ids[place]))
            if batch and len(batch) >= min(most, room):
                yield batch
                batch = []
            batch.append(place)
        yield batch

    def _draw_batch(
        self,
        places: list[int],
        prompts: Sequence[str],
        ids: list[list[int]],
        seeds: NDArray[np.int64],
    ) -> Iterator[tuple[int, list[Sample]]]:
        n = seeds.shape[1]
        chosen = torch.from_numpy(seeds[places]).to(self.device)
        mine = [ids[i] for i in places]
        rows = in_turn(
            self.device,
            lambda: decode(self.model, mine, chosen, self.p0, self.ends, self.pad),
        )
        each = [i for i in places for _ in range(n)]
        samples = self._read(rows, [prompts[i] for i in each], [ids[i] for i in each])
        for k, place in enumerate(places):
            yield place, samples[k * n : (k + 1) * n]

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
        again = encode(self.tokenizer, texts)
        differs = [a != b for a, b in zip(again, drawn, strict=True)]
        moved = [i for i, other in enumerate(differs) if other]
        rest = text_nll(self.model, self.tokenizer, [texts[i] for i in moved], self.device)
        for i, nll in zip(moved, rest, strict=True):
            nlls[i] = nll
        return nlls, differs


def _end_tokens(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        return []
    return [ends] if isinstance(ends, int) else list(ends)
