"""Blocks: the pool's unit. A block is fixed by the prompts alone; a task takes one block or several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.stages.references import RewardsRef, SamplesRef
from exptilt.stages.tables import Made, digests, matrix, order_of, origin_of, prompts_of
from exptilt.stages.workspace import Workspace
from exptilt.storage import keys, pool

BLOCK: Final = 32  # prompts, by their index in the data set
LARGE_BLOCK, LARGE_FROM = 256, 8_192  # prompts of a block from that one on: many prompts are not many files
Matrix = tuple[list[str], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Prompts of one block: all of it, or what is left of it."""

    number: int
    prompts: pl.DataFrame

    @property
    def prompt_ids(self) -> list[str]:
        """Its prompts, in order."""
        return self.prompts["prompt_id"].to_list()

    @property
    def key(self) -> str:
        """What its prompts are called together."""
        return keys.content_key(self.prompt_ids)

    def only(self, prompt_ids: set[str]) -> "Block":
        """Those of its prompts that are among `prompt_ids`."""
        return Block(number=self.number, prompts=self.prompts.filter(pl.col("prompt_id").is_in(prompt_ids)))


def numbers_of(prompt_indices: Sequence[int] | pl.Series) -> NDArray[np.int64]:
    """The block that each prompt belongs to."""
    indices = np.asarray(prompt_indices, dtype=np.int64)
    beyond = np.maximum(indices - LARGE_FROM, 0)
    return np.asarray(np.minimum(indices, LARGE_FROM) // BLOCK + beyond // LARGE_BLOCK)


def width_of(number: int) -> int:
    """Prompts of a block."""
    return BLOCK if number < LARGE_FROM // BLOCK else LARGE_BLOCK


def blocks_of(prompts: pl.DataFrame) -> list[Block]:
    """A table of prompts, in the order of their indices, block by block."""
    numbers, firsts = np.unique(numbers_of(prompts["prompt_index"]), return_index=True)
    places = [*firsts.tolist(), prompts.height]
    return [
        Block(number=number, prompts=prompts[first:last])
        for number, first, last in zip(numbers.tolist(), places, places[1:], strict=False)
    ]


def compute_each(
    workspace: Workspace,
    stage: str,
    samples: SamplesRef,
    scored: Sequence[RewardsRef],
    n: int,
    settings: dict[str, Any],
    compute: Callable[[Matrix, Sequence[Sequence[str]]], Made],
) -> tuple[tuple[str, ...], bool]:
    """The entries of `stage`, one for each block of a shard, and whether the pool had them all.

    Args:
        workspace: where the pool is.
        stage: what the entries are.
        samples: the shard's samples, n of each prompt or as many as it counts.
        scored: their rewards, value by value.
        n: samples per prompt.
        settings: what the entries depend on beside samples and rewards.
        compute: gives an entry from a block's prompt ids, samples per prompt and rewards (see matrix_of),
            and from the entries [V] of its rewards.
    """
    prompts, done = prompts_of(samples.shard), []
    whole = order_of(prompts, samples, n)
    for block in blocks_of(prompts):
        order = whole.filter(pl.col("prompt_id").is_in(block.prompt_ids))
        rewards = [ref.parts[block.number] for ref in scored]
        parts = [*samples.parts[block.number], *(part for ref in rewards for part in ref)]
        said = {"of": digests(parts), "shard": block.key, **settings, **_counts(samples, order)}
        path = workspace.path(stage, keys.content_key(said))
        done.append(pool.compute_once(path, partial(_computed, compute, rewards, order, parts[0])))
    return tuple(entry.path for entry, _ in done), all(cached for _, cached in done)


def _computed(
    compute: Callable[[Matrix, Sequence[Sequence[str]]], Made],
    rewards: Sequence[Sequence[str]],
    order: pl.DataFrame,
    part: str,
) -> Made:
    tables, meta = compute(matrix(rewards, order), rewards)
    return tables, {**meta, **origin_of(part)}


def _counts(samples: SamplesRef, order: pl.DataFrame) -> dict[str, Any]:
    """How many samples each prompt of a block has, where they differ."""
    return {"counts": order["n"].to_list()} if samples.counts else {}
