"""Totals of a tilted run: shard after shard its diagnostics and levels, at the end its quality."""

import numpy as np
import polars as pl

from exptilt.certificate import LOW_ESS
from exptilt.diagnostics import n_by_tail
from exptilt.plan import Recipe
from exptilt.spool import Spool
from exptilt.summary import Estimate, Quality, ValueChange, estimate_of

HIGH_KHAT = 0.7
ENOUGH = 0.9
COLUMNS = ("n", "ess", "max_weight", "khat", "log_z", "kl", "n_needed", "n_unique")
KINDS = ("base", "drawn", "limit")


class Totals:
    """What a tilt's summary needs of every prompt; memory holds one number per prompt at a time."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.values = [spec.value for spec in recipe.rewards]
        self._diagnostics, self._levels = Spool(), Spool()

    def enter(self, diagnostics: pl.DataFrame, levels: pl.DataFrame) -> None:
        """Add a shard."""
        self._diagnostics.append(diagnostics.select(COLUMNS))
        self._levels.append(levels.select("value", *KINDS))

    def of(self, name: str) -> np.ndarray:
        """A diagnostic of all prompts entered, [P]."""
        return np.concatenate([table[name].to_numpy() for table in self._diagnostics.tables(name)])

    def level(self, value: str, kind: str) -> Estimate:
        """A value's mean over prompts."""
        tables = self._levels.tables("value", kind)
        parts = [table.filter(pl.col("value") == value)[kind].to_numpy() for table in tables]
        return estimate_of(np.concatenate(parts))

    def quality(self) -> Quality:
        """The certificate's numbers."""
        ess, needed, khat = self.of("ess"), self.of("n_needed"), self.of("khat")
        khat = khat[khat < np.inf]
        return Quality(
            n=float(np.median(self.of("n"))),
            kl=estimate_of(self.of("kl")),
            log_z=estimate_of(self.of("log_z")),
            ess=float(np.median(ess)),
            max_weight=float(np.median(self.of("max_weight"))),
            low_share=float(np.mean(ess < LOW_ESS)),
            short_share=float(np.mean(needed > self.of("n"))),
            khat_share=_share_over(khat),
            n_by_tail=float(np.quantile(np.minimum(n_by_tail(khat), 1e300), ENOUGH)) if len(khat) else None,
            n_needed=float(np.quantile(np.minimum(needed, 1e300), ENOUGH)),
            unique=float(np.mean(self.of("n_unique"))),
            acceptance=float(np.mean(1 / (self.of("n") * self.of("max_weight")))),
        )

    def changes(self) -> list[ValueChange]:
        """Every value before the tilt, after it, and as n grows."""
        return [
            ValueChange(
                value=value,
                lam=lam,
                before=self.level(value, "base"),
                after=self.level(value, "drawn"),
                limit=self.level(value, "limit"),
            )
            for value, lam in zip(self.values, self.recipe.lam, strict=True)
        ]


def _share_over(khat: np.ndarray) -> float | None:
    return float(np.mean(khat > HIGH_KHAT)) if len(khat) else None
