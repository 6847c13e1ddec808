"""Names for things: prompt ids, content keys and per-sample seeds, all by blake2 of what they name.

Python's own hash() changes with every process, so nothing here uses it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
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


def with_ids(blocks: Iterable[list[str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Blocks of prompts, each with its ids; the k-th repetition of a text gets an id (and draws) of its own.

    Memory holds 16 bytes per different text: 8 of its id (which, were two to share them, would count as
    repetitions of one), and how often it was seen.
    """
    seen, times = np.array([2**64 - 1], dtype=np.uint64), np.array([0])
    for texts in blocks:
        found = [prompt_id(text) for text in texts]
        keys = np.array([int(name[:16], 16) for name in found], dtype=np.uint64)
        new, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
        at = np.searchsorted(seen, new)
        known = seen[at] == new
        repetitions = np.where(known, times[at], 0)[which] + _ranks(which, counts)
        times[at[known]] += counts[known]
        seen = np.insert(seen, at[~known], new[~known])
        times = np.insert(times, at[~known], counts[~known])
        for i in np.flatnonzero(repetitions):
            found[i] = prompt_id(texts[i], int(repetitions[i]))
        yield texts, found


def _ranks(which: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal numbers stand before each of `which`, where k occurs counts[k] times."""
    ranks = np.empty(len(which), dtype=np.int64)
    ranks[np.argsort(which, kind="stable")] = np.arange(len(which)) - np.repeat(
        np.cumsum(counts) - counts, counts
    )
    return ranks


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
