"""Completions from any causal language model of the transformers library, on one device.

The draw is exact and belongs to (prompt, seed): see decode, and ways for how it is known. What batching
can move is the last bits of a logit, which changes a draw only where two candidates tie to within them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from exptilt.conversation import Prompt, text_of
from exptilt.data.texts import texts_of
from exptilt.engines.base import P0, Sample
from exptilt.engines.huggingface.decoding import Rows, decode, decode_plainly
from exptilt.engines.huggingface.incremental import BY_STEPS
from exptilt.engines.huggingface.prefills import Prefill, Prefills, groups
from exptilt.engines.huggingface.token_choice import DRAWN
from exptilt.engines.huggingface.ways import way_of
from exptilt.engines.stop_texts import before_stop, stop_finder
from exptilt.models.causality import words_of
from exptilt.models.chat_template import rendered
from exptilt.models.device_queue import alone, in_turn
from exptilt.models.forward import not_finite
from exptilt.models.likelihood import text_nll
from exptilt.models.loading import causal_model, load_tokenizer
from exptilt.models.memory import bytes_per_prompt, free_bytes, is_exhausted
from exptilt.models.replicas import replica, side_by_side, threads_for
from exptilt.models.tokenization import completions, encode, refuse_unknown
from exptilt.run import current

KEPT: Final = 0.125  # of the memory, for prompts that more is to be drawn behind
AUTO_ROWS: Final = 1024  # more at once is no faster, or has no room
SHARED = ("captured", "shared")
Block = tuple[list[int], slice]  # places of prompts, and which of their samples


class Asked(NamedTuple):
    """Completions that are asked for: texts and ids of P prompts, the completions' seeds [P, N], and the ids
    [P][N][*] that these have already, None where they have none."""

    texts: list[str]
    ids: list[list[int]]
    seeds: NDArray[np.int64]
    begun: Sequence[Sequence[Sequence[int]]] | None = None


class TransformersEngine:
    """y ~ p0(.|x) by a transformers model."""

    def __init__(self, p0: P0, device: str) -> None:
        self.p0, self.device = p0, device
        self.tokenizer = load_tokenizer(p0.model)
        self.model = causal_model(p0.model, device, p0.dtype)
        self.lock = alone(self.model)
        self.way = way_of(self.model, words_of(self.tokenizer, self.model), device)
        self.models = [self.model, *self._replicas()]
        self.locks = [self.lock, *map(alone, self.models[1:])]
        self.stopped = stop_finder(self.tokenizer, p0.stop)
        self.notes: dict[str, Any] = {"drawn": self.way}
        self.memory, self.most = free_bytes(device), math.inf
        self.prefills = [Prefills(KEPT * self.memory / len(self.models)) for _ in self.models]

    def _replicas(self) -> list[Any]:
        """One for each thread beyond the first that a full batch is worth."""
        more = threads_for(AUTO_ROWS, self.device) - 1 if self.way in BY_STEPS else 0
        with self.lock:
            return [replica(self.model) for _ in range(more)]

    @torch.inference_mode()
    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """See base.Engine. Prompts of like length share a batch, halved for good when memory runs out."""
        return self._draw(prompts, Asked(*self._encoded(prompts), seeds), batch_size)

    @torch.inference_mode()
    def extend(
        self,
        prompts: Sequence[Prompt],
        begun: Sequence[Sequence[int]],
        seeds: NDArray[np.int64],
        batch_size: int,
    ) -> list[Sample]:
        """See base.Continuing. A prompt goes through the model once for all that goes on from it."""
        found: dict[int, Sample] = {}
        for group in groups(prompts):
            mine, places = [prompts[row[0]] for row in group], np.array(group)
            texts, ids = self._encoded(mine)
            asked = Asked(texts, ids, seeds[places], [[begun[i] for i in row] for row in group])
            drawn = self._draw(mine, asked, batch_size)
            found |= zip(places.ravel().tolist(), (sample for row in drawn for sample in row), strict=True)
        return [found[place]._replace(logprob=None) for place in range(len(prompts))]

    def shown(self, prompts: Sequence[Prompt], begun: Sequence[Sequence[int]]) -> list[str]:
        """See base.Continuing."""
        return completions(self.tokenizer, self._encoded(prompts)[1], begun)

    def _draw(self, prompts: Sequence[Prompt], asked: Asked, batch_size: int) -> list[list[Sample]]:
        found: list[list[Sample]] = [[] for _ in prompts]
        for block in self._blocks(asked.ids, asked.seeds.shape[1], batch_size or AUTO_ROWS):
            for (places, columns), rows in self._decode(block, asked):
                each = np.repeat(places, columns.stop - columns.start).tolist()
                self._check_finite(rows, each, prompts)
                samples = self._read(rows, [asked.texts[i] for i in each], [asked.ids[i] for i in each])
                for i, sample in zip(each, samples, strict=True):
                    found[i].append(sample)
        return found

    def _encoded(self, prompts: Sequence[Prompt]) -> tuple[list[str], list[list[int]]]:
        """The prompts as texts, rendered where they are a chat's, and their ids."""
        chat, template = bool(self.p0.chat), self.p0.template
        texts = rendered(self.tokenizer, prompts, template) if chat else [text_of(p) for p in prompts]
        ids = encode(self.tokenizer, texts, special=not self.p0.chat)
        refuse_unknown(self.model, ids)
        return texts, ids

    def _blocks(self, ids: list[list[int]], n: int, most: int) -> Iterator[Block]:
        """What goes together: prompts by length, in at most `most` rows and what memory holds; only those
        of one length where the model's way takes no padding."""
        batch = list[int]()
        for place in sorted(range(len(ids)), key=lambda i: len(ids[i])):
            room = int(min(most, self.most, self._room(len(ids[place]), n)))
            if batch and ((len(batch) + 1) * n > room or not self._beside(ids[batch[-1]], ids[place])):
                yield batch, slice(0, n)
                batch = []
            if n > room:
                yield from (([place], slice(k, min(k + room, n))) for k in range(0, n, room))
            else:
                batch.append(place)
        if batch:
            yield batch, slice(0, n)

    def _beside(self, one: list[int], other: list[int]) -> bool:
        """Whether two prompts may be in one batch."""
        return len(one) == len(other) or self.way in BY_STEPS

    def _room(self, length: int, n: int) -> float:
        """Rows, n of a prompt, that fit in memory where prompts have `length` tokens."""
        config, new = self.model.config.get_text_config(), self.p0.max_new_tokens
        one = bytes_per_prompt(config, self.model.dtype.itemsize, length, n, new, self.way in SHARED)
        return max(n * self.memory / one, 1)

    def _decode(self, block: Block, asked: Asked) -> Iterator[tuple[Block, Rows]]:
        """The block's rows; by halves where memory runs out."""
        parts = _parts(block, min(threads_for(_count(block), self.device), len(self.models)))
        works: list[Callable[[], Rows]] = [
            partial(self._rows, k, asked, *part) for k, part in enumerate(parts)
        ]
        try:
            found = in_turn(self.device, lambda: side_by_side(works))
        except Exception as error:
            if _count(block) == 1 or not is_exhausted(error):
                raise
            found = []
        if found:
            yield from zip(parts, found, strict=True)
            return
        self.most = _count(block) // 2
        for prefills in self.prefills:
            prefills.kept.clear()
        torch.cuda.empty_cache()
        for half in _halves(block):
            yield from self._decode(half, asked)

    def _rows(self, k: int, asked: Asked, places: list[int], columns: slice) -> Rows:
        """What the k-th of the models draws."""
        model, ids = self.models[k], [asked.ids[i] for i in places]
        begun = [row for i in places for row in asked.begun[i][columns]] if asked.begun else []
        seeds = torch.from_numpy(asked.seeds[places, columns]).to(self.device)
        how = partial(current().meter.drew, self.device), begun
        with self.locks[k]:
            if self.way not in BY_STEPS:
                return decode_plainly(model, ids, seeds, self.p0, self.stopped, self.way == "plain", *how)
            again = asked.begun is not None and self.way in SHARED
            prefill = (self.prefills[k].of if again else Prefill.of)(model, ids, seeds.device)
            return decode(prefill, seeds, self.p0, self.stopped, self.way, *how)

    def _check_finite(self, rows: Rows, places: list[int], prompts: Sequence[Prompt]) -> None:
        """Raise LogitsError for the first row whose logits were not finite, at `places` of the prompts."""
        for row in (rows.logprob.isnan() | rows.raw.isnan()).nonzero()[:1, 0].tolist():
            raise not_finite(self.model, text_of(prompts[places[row]]), places[row])

    def _read(self, rows: Rows, prompts: list[str], prompt_ids: list[list[int]]) -> list[Sample]:
        """The rows as samples."""
        counts, lengths = rows.counts.tolist(), ((rows.fixed != DRAWN).sum(1) + rows.drawn).tolist()
        tokens = [row[:n] for row, n in zip(rows.tokens.tolist(), lengths, strict=True)]
        new = [row[:n] for row, n in zip(tokens, counts, strict=True)]
        whole = completions(self.tokenizer, prompt_ids, new)
        kept = [before_stop(text, self.p0.stop) for text in whole]
        reasons = ["stop" if end else "length" for end in rows.ended.tolist()]
        nlls = _nlls(rows.raw.tolist(), [len(a) + len(b) for a, b in zip(prompt_ids, new, strict=True)])
        stopped = [i for i, text in enumerate(whole) if text != kept[i]]
        read = (kept, counts, reasons, rows.logprob.tolist(), nlls)
        made = [Sample(*row)._replace(tokens=ids) for *row, ids in zip(*read, tokens, strict=True)]
        return self._rescored(made, prompts, stopped)

    def _rescored(self, samples: list[Sample], prompts: list[str], places: list[int]) -> list[Sample]:
        """The samples, those at `places` with the nll of the kept text, by a forward pass of its own."""
        texts = texts_of([prompts[i] for i in places], [samples[i].completion for i in places])
        found = text_nll(self.model, self.tokenizer, texts, self.device, not self.p0.chat)
        for i, (nll, cut) in zip(places, found, strict=True):
            samples[i] = samples[i]._replace(nll=nll, rescored=True, cut=cut)
        return samples


def _nlls(raw: list[float], lengths: list[int]) -> list[float | None]:
    """Mean NLL per predicted token of texts of so many tokens; None for one token."""
    return [-total / (n - 1) if n > 1 else None for total, n in zip(raw, lengths, strict=True)]


def _count(block: Block) -> int:
    """Rows of a block."""
    places, columns = block
    return len(places) * int(columns.stop - columns.start)


def _parts(block: Block, count: int) -> list[Block]:
    """The block in `count` parts, a power of two."""
    if count == 1:
        return [block]
    return [part for half in _halves(block) for part in _parts(half, count // 2)]


def _halves(block: Block) -> list[Block]:
    places, columns = block
    if len(places) > 1:
        middle = len(places) // 2
        return [(places[:middle], columns), (places[middle:], columns)]
    middle = (columns.start + columns.stop) // 2
    return [(places, slice(columns.start, middle)), (places, slice(middle, columns.stop))]
