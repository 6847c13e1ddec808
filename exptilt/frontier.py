"""The frontier of a sweep: for every λ the levels that it brings, the KL that it costs, and its verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from exptilt import certificate, output, page, plot, pool, store
from exptilt.explore import Sweep
from exptilt.explored import left_out, tilted
from exptilt.narrow import Missing, NothingLeft
from exptilt.plan import Plan
from exptilt.refs import ExploredRef
from exptilt.stages.tables import read
from exptilt.summary import Estimate, estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One λ: level of every value and KL (nats per prompt), with standard errors over prompts; the median
    ESS; the share of prompts under an ESS of 2, and of those that need more samples than they have."""

    number: int
    lam: tuple[float, ...]
    levels: tuple[Estimate, ...]
    kl: Estimate
    ess: float
    low_share: float
    short_share: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A finished sweep: its values, base levels and points, and where it is saved."""

    values: tuple[str, ...]
    base: tuple[Estimate, ...]
    points: tuple[Point, ...]
    prompts: int
    n: int
    json: str
    folder: str
    data_sets: tuple[tuple[int, str], ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def saved(self) -> list[tuple[str, str]]:
        """The data sets that were saved, by the λ's number."""
        return [(f"data set {number}", path) for number, path in self.data_sets]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The prompts that failed."""
        return [("left out", str(prompt)) for prompt in self.missing]


class _Sums:
    """Totals of one λ over prompts."""

    def __init__(self, width: int) -> None:
        self.count, self.low, self.short = 0, 0, 0
        self.sums, self.squares = np.zeros(width), np.zeros(width)
        self.ess: list[np.ndarray] = []
        self.n: list[np.ndarray] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Enter the prompts of a shard: levels and KL are columns [P, V + 1]."""
        numbers = np.column_stack([np.array(rows["levels"].to_list()), rows["kl"].to_numpy()])
        self.count += len(numbers)
        self.sums += numbers.sum(axis=0)
        self.squares += np.square(numbers).sum(axis=0)
        self.low += int((rows["ess"] < certificate.LOW_ESS).sum())
        self.short += int((rows["n_needed"] > rows["n"]).sum())
        self.ess.append(rows["ess"].to_numpy().astype(np.float32))
        self.n.append(rows["n"].to_numpy())

    def point(self, number: int, lam: tuple[float, ...]) -> Point:
        """The point, once all shards are entered."""
        estimates = [estimate(s, q, self.count) for s, q in zip(self.sums, self.squares, strict=True)]
        low, short = self.low / self.count, self.short / self.count
        return Point(
            number=number,
            lam=lam,
            levels=tuple(estimates[:-1]),
            kl=estimates[-1],
            ess=float(np.median(np.concatenate(self.ess))),
            low_share=low,
            short_share=short,
            verdict=certificate.verdict(float(np.median(np.concatenate(self.n))), low, short),
        )


def _points(explored: Sequence[ExploredRef], lams: Sequence[tuple[float, ...]]) -> list[Point]:
    """Every λ over the prompts of all shards."""
    sums = [_Sums(len(lams[0]) + 1) for _ in lams]
    for ref in explored:
        for (index,), rows in read(ref.path, "explored").group_by("lam_index"):
            sums[int(str(index))].add(rows)
    return [each.point(i, lam) for i, (each, lam) in enumerate(zip(sums, lams, strict=True))]


def frontier(plan: Plan, explored: Sequence[ExploredRef | NothingLeft]) -> Frontier:
    """Gather what every shard says of every λ, and save it: JSON, a picture, a page."""
    missing = left_out(ref if isinstance(ref, NothingLeft) else ref.scored for ref in explored)
    config = plan.recipe.config
    assert isinstance(config, Sweep)
    points = _points([ref for ref in explored if not isinstance(ref, NothingLeft)], config.lams)
    values = tuple(spec.value for spec in plan.recipe.rewards)
    folder = store.join(config.save_directory, output.named(plan, f"_sweep_val={','.join(values)}"))
    found = Frontier(
        values=values,
        base=points[0].levels,
        points=tuple(points[1:]),
        prompts=plan.n_prompts - len(missing),
        n=config.nsamples,
        json=f"{folder}.json",
        folder=folder,
        data_sets=tuple((place + 1, _data_set(plan, config.vectors[place])) for place in config.saved),
        missing=missing,
    )
    _save(plan, found)
    return found


def _data_set(plan: Plan, lam: tuple[float, ...]) -> str:
    return store.join(plan.recipe.config.save_directory, output.stem(tilted(plan, lam)))


def record(values: Sequence[str], point: Point) -> dict[str, Any]:
    """A point as JSON has it, numbers by the values' names."""
    return {
        "number": point.number,
        "lam": dict(zip(values, point.lam, strict=True)),
        "levels": {v: asdict(level) for v, level in zip(values, point.levels, strict=True)},
        "kl": asdict(point.kl),
        "ess_median": point.ess,
        "ess_under_2": point.low_share,
        "short_of_samples": point.short_share,
        "verdict": point.verdict,
    }


def _save(plan: Plan, found: Frontier) -> None:
    figure = plot.frontier(found)
    store.write_json(found.json, [record(found.values, point) for point in found.points])
    store.write_bytes(store.join(found.folder, "frontier.png"), plot.png(figure))
    store.write_bytes(store.join(found.folder, "index.html"), page.frontier(found, plot.svg(figure)))
    manifest = {
        **output.provenance(plan),
        "base": {v: asdict(level) for v, level in zip(found.values, found.base, strict=True)},
        "points": len(found.points),
        "missing": [asdict(prompt) for prompt in found.missing],
    }
    store.write_json(store.join(found.folder, pool.MANIFEST), manifest)
