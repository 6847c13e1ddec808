"""Names for things: prompt ids, content keys and per-sample seeds, all by blake2 of what they name.

Python's own hash() changes with every process, so nothing here uses it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from exptilt.conversation import Prompt, as_dicts

T = TypeVar("T")

KEY_BYTES = 16
BLOCK = 10_000  # prompts that are held as Python objects at a time


def content_key(value: Any) -> str:
    """Hex blake2b of the canonical JSON of `value`: equal content, equal key, on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()


def prompt_id(prompt: Prompt, repetition: int = 0) -> str:
    """The id of a text, or of a conversation's messages; its k-th repetition in a source has another."""
    return content_key([prompt if isinstance(prompt, str) else as_dicts(prompt), repetition])


def with_ids(
    blocks: Iterable[list[T]], prompt_of: Callable[[T], Prompt]
) -> Iterator[tuple[list[T], list[str]]]:
    """Blocks of rows with their prompts' ids; a prompt's k-th repetition has an id (and draws) of its own."""
    seen = Seen()
    for rows in blocks:
        prompts = [prompt_of(row) for row in rows]
        found = [prompt_id(prompt) for prompt in prompts]
        _, repetitions = seen.enter(found)
        for i in np.flatnonzero(repetitions):
            found[i] = prompt_id(prompts[i], int(repetitions[i]))
        yield rows, found


class Seen:
    """Which ids came before, and how often; memory holds 24 bytes for each.

    Only an id's first 64 bits count: of a million, two are taken for one with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._keys = np.array([2**64 - 1], dtype=np.uint64)
        self._places, self._times = np.array([-1]), np.array([0])

    def __len__(self) -> int:
        return len(self._keys) - 1

    def enter(self, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each name's place among the different ones, by first appearance, and how often it came before."""
        keys = np.array([int(name[:16], 16) for name in names], dtype=np.uint64)
        found, first, which, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        at = np.searchsorted(self._keys, found)
        new = self._keys[at] != found
        places, before = self._places[at], np.where(new, 0, self._times[at])
        places[new] = len(self) + np.argsort(np.argsort(first[new]))
        self._times[at[~new]] += counts[~new]
        self._keys = np.insert(self._keys, at[new], found[new])
        self._places = np.insert(self._places, at[new], places[new])
        self._times = np.insert(self._times, at[new], counts[new])
        return places[which], before[which] + _ranks(which, counts)


def _ranks(which: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal numbers stand before each of `which`, where k occurs counts[k] times."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.empty(len(which), dtype=np.int64)
    ranks[np.argsort(which, kind="stable")] = np.arange(len(which)) - starts
    return ranks


def seed_for(run_seed: int, prompt_id: str, sample_index: int | str) -> int:
    """The seed of one sample; it does not depend on shards, batches or n, so none of them changes a draw.

    Args:
        run_seed: the run's.
        prompt_id: the prompt's content key.
        sample_index: the sample's place among those of its prompt, or a name for another use of the prompt.

    Returns:
        A non-negative int64, by blake2b of all three.
    """
    text = f"{run_seed}/{prompt_id}/{sample_index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeds_for(run_seed: int, ids: Sequence[str], first: int, last: int) -> NDArray[np.int64]:
    """The seeds of a range of every prompt's samples.

    Args:
        run_seed: the run's.
        ids: prompt ids [P].
        first: the first sample's index.
        last: the index behind the last sample's.

    Returns:
        Seeds [P, last - first], each by seed_for.
    """
    rows = [[seed_for(run_seed, pid, i) for i in range(first, last)] for pid in ids]
    return np.array(rows, dtype=np.int64).reshape(len(ids), last - first)
