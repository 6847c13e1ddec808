"""Chains of moves in the pool: an entry for each block of prompts and range of moves.

An entry is named by the entry before it and by all that the moves depend on, so that more moves extend fewer,
and a run that was ended takes up behind the last whole range.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import polars as pl

from exptilt.run import current
from exptilt.stages.chain_states import Kernel, move, states_of, table_of
from exptilt.stages.tables import Made, digests
from exptilt.storage import keys, pool

RANGE: Final = 8  # moves of an entry; what a crash can lose of them
KERNEL: Final = "suffix-1"  # its rules: others are another chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where the chains of a block stand: how they move, what this place is called in keys, the table of their
    states, and what an entry of them notes of where they came from."""

    kernel: Kernel
    name: Any
    states: Callable[[], pl.DataFrame]
    origin: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """Ranges of moves: the entries of each range [ranges][blocks], those that were computed now, and where
    the chains stand then."""

    entries: list[list[pool.Entry]]
    stands: list[Stand]
    new: list[pool.Entry]


def advance(stands: Sequence[Stand], moves: int) -> Advanced:
    """So many moves of the chains of some blocks, together where the pool lacks them.

    Args:
        stands: where each block's chains begin, all of one run's prompts.
        moves: how many.
    """
    entries, new = list[list[pool.Entry]](), list[pool.Entry]()
    for begin, end in ranges(moves):
        paths = [_path(stand, begin, end) for stand in stands]
        made = pool.compute_together(paths, partial(_moved, stands, range(begin, end)))
        entries.append([entry for entry, _ in made])
        new += [entry for entry, cached in made if not cached]
        stands = [stand_of(each.kernel, entry) for each, entry in zip(stands, entries[-1], strict=True)]
    return Advanced(entries=entries, stands=[*stands], new=new)


def ranges(moves: int) -> Iterator[tuple[int, int]]:
    """So many moves in ranges of RANGE, the last one with what is left: first moves, and behind the last."""
    return ((first, min(first + RANGE, moves)) for first in range(0, moves, RANGE))


def stand_of(kernel: Kernel, entry: pool.Entry) -> Stand:
    """Where an entry leaves its chains, to be moved on by `kernel`."""
    origin = {name: said for name, said in entry.meta.items() if name not in ("moves", "tokens", "seconds")}
    states = partial(entry.table, "chains")
    return Stand(kernel=kernel, name=digests([entry.path]), states=states, origin=origin)


def _path(stand: Stand, begin: int, end: int) -> str:
    recipe = stand.kernel.recipe
    assert recipe.p0
    said = {
        "kernel": KERNEL,
        "chains": stand.kernel.name,
        "of": stand.name,
        "moves": [begin, end],
        "p0": recipe.p0.identity,
        "seed": recipe.config.seed,
        "lam": list(recipe.lam.values()),
        "rewards": [[spec.value, spec.identity] for spec in recipe.rewards],
    }
    return recipe.workspace.path("chains", keys.content_key(said))


def _moved(stands: Sequence[Stand], numbers: range, places: list[int]) -> Iterator[tuple[int, Made]]:
    """The blocks at some places after the moves `numbers`, by their places; suffixes of all share batches."""
    began, before = time.perf_counter(), [stands[place].states() for place in places]
    kernels = [stands[place].kernel for place in places]
    states = states_of(kernels, before)
    for number in numbers:
        current().check()
        move(kernels[0], states, number)
    table, seconds = table_of(states), time.perf_counter() - began
    for place, mine in zip(places, _parts(table, before), strict=True):
        share = mine.height / table.height
        meta = {
            **stands[place].origin,
            "moves": [numbers.start, numbers.stop],
            "tokens": round(states.tokens * share),
            "seconds": seconds * share,
        }
        yield place, ({"chains": mine}, meta)


def _parts(table: pl.DataFrame, before: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of `table` that belong to each of the tables that it continues."""
    first = 0
    for each in before:
        yield table.slice(first, each.height)
        first += each.height
