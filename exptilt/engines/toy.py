"""An engine whose every completion can be listed with its probability: laws are checked on it.

A completion is a string of up to LENGTH letters, drawn letter by letter from a table that depends on
the prompt and the last letter; "." ends it. top_k, top_p and temperature shape the table.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import Prompt, text_of
from exptilt.engines.base import P0, Capabilities, EngineSpec, Sample
from exptilt.engines.stop_texts import before_stop
from exptilt.models.reference import ModelRef
from exptilt.rng import uniform
from exptilt.storage.keys import seed_for
from exptilt.tilting.weights import normalise

LETTERS: Final = "abcd."
END: Final = len(LETTERS) - 1
LENGTH: Final = 4
SHAPE: Final = (len(LETTERS), len(LETTERS))  # of a table
SMALLEST: Final = 1e-300  # a temperature that no logit overflows by

Floats = NDArray[np.float64]


class ToyEngine:
    """y ~ p0(.|x) over the strings of at most LENGTH letters."""

    def __init__(self, p0: P0) -> None:
        self.p0, self.notes = p0, dict[str, Any]()
        self.length = min(LENGTH, p0.max_new_tokens)

    def tables(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        """Log probabilities [P, previous, next] of some prompts: as sampled, and of the raw model."""
        logits = np.array([_logits(prompt) for prompt in prompts]).reshape(-1, *SHAPE)
        return truncate(logits, self.p0), np.log(normalise(logits))

    def draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], batch_size: int
    ) -> list[list[Sample]]:
        """See base.Engine; `batch_size` changes nothing here."""
        return self._draw(prompts, seeds)

    def extend(
        self,
        prompts: Sequence[Prompt],
        begun: Sequence[Sequence[int]],
        seeds: NDArray[np.int64],
        batch_size: int,
    ) -> list[Sample]:
        """See base.Continuing; `batch_size` changes nothing here."""
        return [sample._replace(logprob=None) for (sample,) in self._draw(prompts, seeds[:, None], begun)]

    def shown(self, prompts: Sequence[Prompt], begun: Sequence[Sequence[int]]) -> list[str]:
        """See base.Continuing."""
        return [_text(list(tokens)) for tokens in begun]

    def _draw(
        self, prompts: Sequence[Prompt], seeds: NDArray[np.int64], begun: Sequence[Sequence[int]] = ()
    ) -> list[list[Sample]]:
        sampled, raw = self.tables([text_of(prompt) for prompt in prompts])
        tokens = self._walk(sampled, seeds, begun)
        codes = tokens @ len(LETTERS) ** np.arange(self.length)
        _, firsts, kinds = np.unique(codes, return_index=True, return_inverse=True)
        found = [self._sample(row) for row in tokens.reshape(-1, self.length)[firsts].tolist()]
        kinds = kinds.reshape(seeds.shape)
        counts = np.array([len(sample.tokens or ()) for sample in found], dtype=np.int64)[kinds]
        scores = _scores(sampled, tokens, counts), -_scores(raw, tokens, counts) / counts
        return [
            [found[kind]._replace(logprob=logprob, nll=nll) for kind, logprob, nll in zip(*row, strict=True)]
            for row in zip(kinds.tolist(), *(score.tolist() for score in scores), strict=True)
        ]

    def _sample(self, tokens: list[int]) -> Sample:
        """What was drawn, but for its likelihood."""
        path = self._path(tokens)
        return Sample(
            completion=before_stop(_text(path), self.p0.stop),
            n_tokens=sum(t != END for t in path),
            finish_reason="stop" if END in path or self._stops(_text(path)) else "length",
            logprob=None,
            nll=None,
            tokens=path,
        )

    def _walk(
        self, tables: Floats, seeds: NDArray[np.int64], begun: Sequence[Sequence[int]] = ()
    ) -> NDArray[np.int64]:
        """Tokens [P, N, length] by Gumbel-max: argmax of log probability (`tables` are [P, previous, next])
        plus Gumbel noise; the first ones of each prompt's are those `begun`, where there are any."""
        last, prompts = np.full(seeds.shape, END), np.arange(len(tables))[:, None]
        tokens = np.empty((*seeds.shape, self.length), dtype=np.int64)
        for step in range(self.length):
            noise = -np.log(-np.log(uniform(seeds[..., None], step, np.arange(len(LETTERS)))))
            last = (tables[prompts, last] + noise).argmax(axis=-1)
            for row in (row for row, start in enumerate(begun) if step < len(start)):
                last[row] = begun[row][step]
            tokens[..., step] = last
        return tokens

    def _path(self, tokens: list[int]) -> list[int]:
        """The tokens up to the end token, or up to the one that completes a stop text."""
        if not self.p0.stop:
            return tokens[: tokens.index(END) + 1] if END in tokens else tokens
        for count in range(1, len(tokens) + 1):
            if tokens[count - 1] == END or self._stops(_text(tokens[:count])):
                return tokens[:count]
        return tokens

    def _stops(self, text: str) -> bool:
        return bool(self.p0.stop) and before_stop(text, self.p0.stop) != text

    def enumerate(self, prompt: str) -> Iterator[tuple[str, float]]:
        """Every completion of `prompt` with its probability under p0; they sum to 1. One that a stop text
        ends comes once for each text that is drawn of it."""
        ((sampled,), _) = self.tables([prompt])
        yield from self._grow(sampled, END, "", 0.0)

    def _grow(self, table: Floats, last: int, text: str, logprob: float) -> Iterator[tuple[str, float]]:
        if len(text) == self.length or self._stops(text):
            yield before_stop(text, self.p0.stop), float(np.exp(logprob))
            return
        for token, letter in enumerate(LETTERS):
            there = logprob + table[last, token]
            if token == END:
                yield text, float(np.exp(there))
            elif np.isfinite(there):
                yield from self._grow(table, token, text + letter, there)


@lru_cache(maxsize=4096)
def _logits(prompt: str) -> Floats:
    """The model's logits [previous, next] after `prompt`."""
    return np.random.default_rng(seed_for(0, prompt, "table")).normal(size=SHAPE)


def truncate(logits: Floats, p0: P0) -> Floats:
    """Log probabilities [..., V] after temperature, top_k and top_p, in that order."""
    scaled = logits / max(p0.temperature, SMALLEST)
    order = np.argsort(-scaled, axis=-1, kind="stable")
    ranked = np.take_along_axis(scaled, order, axis=-1)
    if p0.top_k:
        ranked[..., p0.top_k :] = -np.inf
    kept = normalise(ranked)
    ranked[np.cumsum(kept, axis=-1) - kept >= p0.top_p] = -np.inf
    kept, out = normalise(ranked), np.full_like(scaled, -np.inf)
    np.put_along_axis(out, order, np.log(kept, out=np.full_like(kept, -np.inf), where=kept > 0), axis=-1)
    return out


def _text(path: list[int]) -> str:
    return "".join(LETTERS[token] for token in path if token != END)


def _scores(tables: Floats, tokens: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """Log probability [P, N] of the first `counts` of `tokens` [P, N, length], by `tables` [P, …]."""
    total, last, prompts = np.zeros(counts.shape), np.full(counts.shape, END), np.arange(len(tables))[:, None]
    for step in range(tokens.shape[-1]):
        total += np.where(step < counts, tables[prompts, last, tokens[..., step]], 0.0)
        last = tokens[..., step]
    return total


def _base_model(name: str) -> ModelRef | None:
    return ModelRef(name=name, source=name, revision="toy-1", engine="toy") if name == "toy" else None


ENGINE: Final = EngineSpec(
    name="toy",
    can=Capabilities(continues=True),
    base_model=_base_model,
    load=lambda p0, device: ToyEngine(p0),
)
