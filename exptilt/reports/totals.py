"""Totals of a tilted run: shard after shard its diagnostics and levels, at the end its quality."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from exptilt.reports.estimate import Estimate, estimate_of
from exptilt.reports.summary import Quality, SpreadChange, ValueChange
from exptilt.stages.ensemble import spread_columns
from exptilt.stages.recipe import Recipe
from exptilt.storage.spooled_tables import Spool
from exptilt.tilting.diagnostics import n_by_tail
from exptilt.tilting.verdict import LOW_ESS, SHORT_SHARE

HIGH_KHAT = 0.7
COLUMNS = ("n", "ess", "max_weight", "khat", "log_z", "kl", "n_needed", "n_unique")
KINDS = ("base", "drawn", "limit")
BARS, MOST_SHOWN, FINITE = 30, 1e12, 1e300
Bars = tuple[np.ndarray, np.ndarray]  # a histogram: edges, and counts between them


class Totals:
    """What a tilt's summary needs of every prompt; memory holds one number per prompt at a time."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.values = [spec.value for spec in recipe.rewards]
        self.ensembles = [spec for spec in recipe.rewards if spec.members]
        self.kinds = (*KINDS, "refined") if recipe.refines else KINDS
        self._diagnostics, self._levels = Spool(), Spool()

    def enter(self, diagnostics: pl.DataFrame, levels: pl.DataFrame) -> None:
        """Add a shard."""
        spreads = [column for spec in self.ensembles for column in spread_columns(spec.value)]
        self._diagnostics.append(diagnostics.select(*COLUMNS, *spreads))
        self._levels.append(levels.select("value", *self.kinds))

    def of(self, number: pl.Expr) -> np.ndarray:
        """A number of every prompt entered, from the diagnostics' columns, [P]."""
        return _filled(self._diagnostics.height, (t.select(number) for t in self._diagnostics.tables()))

    def level(self, value: str, kind: str) -> Estimate:
        """A value's mean over prompts."""
        tables = (t.filter(pl.col("value") == value) for t in self._levels.tables("value", kind))
        return estimate_of(_filled(self._diagnostics.height, (table.select(kind) for table in tables)))

    def quality(self) -> Quality:
        """The certificate's numbers."""
        khat = self.of(pl.col("khat"))
        khat = khat[khat < np.inf]
        return Quality(
            khat_share=float(np.mean(khat > HIGH_KHAT)) if len(khat) else None,
            n_by_tail=_most(n_by_tail(khat)) if len(khat) else None,
            n=_median(self.of(pl.col("n"))),
            kl=estimate_of(self.of(pl.col("kl"))),
            log_z=estimate_of(self.of(pl.col("log_z"))),
            ess=_median(self.of(pl.col("ess"))),
            max_weight=_median(self.of(pl.col("max_weight"))),
            low_share=float(np.mean(self.of(pl.col("ess") < LOW_ESS))),
            short_share=float(np.mean(self.of(pl.col("n_needed") > pl.col("n")))),
            n_needed=_most(self.of(pl.col("n_needed"))),
            unique=float(np.mean(self.of(pl.col("n_unique")))),
            acceptance=float(np.mean(self.of(1 / (pl.col("n") * pl.col("max_weight"))))),
        )

    def spreads(self) -> list[SpreadChange]:
        """Every ensemble's spread before the tilt and after it."""
        columns = [spread_columns(spec.value) for spec in self.ensembles]
        return [
            SpreadChange(
                value=spec.value,
                members=len(spec.members),
                before=estimate_of(self.of(pl.col(before))),
                after=estimate_of(self.of(pl.col(after))),
            )
            for spec, (before, after) in zip(self.ensembles, columns, strict=True)
        ]

    def bars(self) -> tuple[Bars, Bars]:
        """Histograms over prompts: of the ESS, and of the samples needed, on a logarithmic axis."""
        n, needed = self.recipe.config.nsamples, pl.col("n_needed").clip(1, MOST_SHOWN)
        most = np.log10(max(self.of(needed).max(), n)) + 0.3
        return (
            self._counted(pl.col("ess"), np.linspace(1, max(n, 2), BARS)),
            self._counted(needed, np.logspace(0, most, BARS)),
        )

    def _counted(self, number: pl.Expr, edges: np.ndarray) -> Bars:
        found = (t.select(number).to_numpy()[:, 0] for t in self._diagnostics.tables())
        return edges, np.sum([np.histogram(numbers, edges)[0] for numbers in found], axis=0)

    def changes(self) -> list[ValueChange]:
        """Every value before the tilt, after it, and as n grows."""
        return [
            ValueChange(
                value=value,
                lam=self.recipe.lam[value],
                before=self.level(value, "base"),
                after=self.level(value, "drawn"),
                limit=self.level(value, "limit"),
                refined=self.level(value, "refined") if self.recipe.refines else None,
            )
            for value in self.values
        ]


def _filled(height: int, columns: Iterable[pl.DataFrame]) -> np.ndarray:
    """Tables of one column as one array [height] of float64."""
    whole, end = np.empty(height), 0
    for column in columns:
        whole[end : end + column.height] = column.to_numpy()[:, 0]
        end += column.height
    return whole


def _median(numbers: np.ndarray) -> float:
    return float(np.median(numbers, overwrite_input=True))


def _most(numbers: np.ndarray) -> float:
    """The smallest of the numbers that all but a share of SHORT_SHARE do not exceed."""
    place = len(numbers) - 1 - int(SHORT_SHARE * len(numbers))
    numbers.partition(place)
    return float(min(numbers[place], FINITE))
