"""The prompts of a data set's page, by lot and furthest from sound, and what its pictures are of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from exptilt.outputs.shown_prompts import ShardTables, shown
from exptilt.reports.shown import ShownPrompt
from exptilt.storage import keys

PICTURED: Final = 2_000  # prompts by lot, whose samples the pictures are of
LOTS: Final = 2**63
Placed = tuple[float, ShownPrompt]


@dataclass(slots=True, kw_only=True)
class PagePrompts:
    """Enters shard after shard; memory holds the prompts chosen so far.

    Attributes:
        count: prompts in each list.
        seed: the run's, which the lots depend on.
        share: of the prompts that the pictures are of.
        by_lot: the prompts of smallest lot, in order.
        worst: those that lack most samples, worst first; none without a tilt.
        pictured: rewards and weights of the samples that pictures are of, and their prompts' numbers; none
            without a tilt.
    """

    count: int
    seed: int
    share: float
    by_lot: list[Placed] = field(default_factory=list)
    worst: list[Placed] = field(default_factory=list)
    pictured: list[pl.DataFrame] = field(default_factory=list)

    def enter(self, tables: ShardTables) -> None:
        """Add a shard."""
        lots = {name: keys.seed_for(self.seed, name, "page") / LOTS for name in tables.prompts["prompt_id"]}
        if tables.lam:
            mine = [name for name, lot in lots.items() if lot < self.share]
            rows = tables.weighted.filter(pl.col("prompt_id").is_in(mine))
            self.pictured.append(rows.select(_number(tables.prompts), "weight", *tables.lam))
        places = _from_worst(tables.diagnostics)
        chosen = {*self._first(lots, self.by_lot), *self._first(places, self.worst)}
        for prompt in shown(tables, chosen):
            self.by_lot.append((lots[prompt.prompt_id], prompt))
            if prompt.prompt_id in places:
                self.worst.append((places[prompt.prompt_id], prompt))
        self.by_lot, self.worst = (_best(each, self.count) for each in (self.by_lot, self.worst))

    def _first(self, places: Mapping[str, float], chosen: Sequence[Placed]) -> list[str]:
        """The prompts of smallest place, of those that may be among the first so far."""
        most = chosen[-1][0] if chosen and len(chosen) == self.count else math.inf
        near = [name for name, place in places.items() if place <= most]
        return sorted(near, key=places.__getitem__)[: self.count]


def _number(prompts: pl.DataFrame) -> pl.Expr:
    """A number of each prompt among all shards'. A text would hold on to all texts that were read with it."""
    return (pl.col("prompt_id").rle_id() + int(prompts["prompt_index"][0])).alias("prompt")


def _from_worst(diagnostics: pl.DataFrame | None) -> dict[str, float]:
    """Smaller where a prompt needs more samples, for each that it has."""
    if diagnostics is None:
        return {}
    ratio = diagnostics.select("prompt_id", -pl.col("n_needed") / pl.col("n"))
    return {str(name): float(place) for name, place in ratio.iter_rows()}


def _best(found: list[Placed], count: int) -> list[Placed]:
    return sorted(found, key=lambda each: (each[0], each[1].index))[:count]
