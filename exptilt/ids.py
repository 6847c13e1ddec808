"""Names for things: prompt ids, content keys and per-sample seeds, all by blake2 of what they name.

Python's own hash() changes with every process, so nothing here uses it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

KEY_BYTES = 16
BLOCK = 10_000  # prompts that are held as Python objects at a time


def content_key(value: Any) -> str:
    """Hex blake2b of the canonical JSON of `value`: equal content, equal key, on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()


def prompt_id(prompt: str, repetition: int = 0) -> str:
    """The id of a text; its k-th repetition in a source has another."""
    return content_key([prompt, repetition])


def prompt_ids(prompts: Iterable[str]) -> pl.Series:
    """One id per prompt, by text; the k-th repetition of a text gets an id (and draws) of its own."""
    texts, seen = pl.Series("prompt", prompts, dtype=pl.String), Counter[str]()
    rows = texts.to_frame().with_columns(repeats=texts.is_duplicated())

    def name(text: str, repeats: bool) -> str:
        repetition = seen[text]
        if repeats:
            seen[text] += 1
        return prompt_id(text, repetition)

    parts = rows.iter_slices(BLOCK)
    return pl.concat([pl.Series([name(*row) for row in part.iter_rows()]) for part in parts])


def seed_for(run_seed: int, prompt_id: str, sample_index: int | str) -> int:
    """The seed of one sample, a non-negative int64: blake2b of (run seed, prompt id, sample index).

    It knows nothing of shards, batches or n, so none of them can change a draw.
    """
    text = f"{run_seed}/{prompt_id}/{sample_index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeds_for(run_seed: int, ids: Sequence[str], first: int, last: int) -> NDArray[np.int64]:
    """Seeds [P, last - first] of the samples first..last-1 of every prompt."""
    rows = [[seed_for(run_seed, pid, i) for i in range(first, last)] for pid in ids]
    return np.array(rows, dtype=np.int64).reshape(len(ids), last - first)
