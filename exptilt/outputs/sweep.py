"""A sweep: every λ over the prompts of all shards, gathered and saved."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from exptilt.config.exploration import Sweep
from exptilt.config.lambda_grid import Lam
from exptilt.outputs import manifest, names, pool_entries
from exptilt.planning.exploration import missing_of, tilted
from exptilt.planning.plan import Plan
from exptilt.reports import figures, web_page
from exptilt.reports.estimate import estimate
from exptilt.reports.frontier import Frontier, Point, record
from exptilt.run import in_its_run
from exptilt.stages.failures import AllMissing
from exptilt.stages.references import ExploredRef
from exptilt.stages.tables import read
from exptilt.storage import filesystem, pool
from exptilt.tilting import verdict


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
        self.low += int((rows["ess"] < verdict.LOW_ESS).sum())
        self.short += int((rows["n_needed"] > rows["n"]).sum())
        self.ess.append(rows["ess"].to_numpy().astype(np.float32))
        self.n.append(rows["n"].to_numpy())

    def point(self, number: int, lam: Lam) -> Point:
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
            verdict=verdict.verdict(float(np.median(np.concatenate(self.n))), low, short),
        )


def _points(explored: Sequence[ExploredRef], lams: Sequence[Lam]) -> list[Point]:
    """Every λ over the prompts of all shards."""
    sums = [_Sums(len(lams[0]) + 1) for _ in lams]
    for ref in explored:
        table = pl.concat([read(path, "explored") for path in ref.paths])
        for (index,), rows in table.group_by("lam_index"):
            sums[int(str(index))].add(rows)
    return [each.point(i, lam) for i, (each, lam) in enumerate(zip(sums, lams, strict=True))]


@in_its_run
def frontier(plan: Plan, explored: Sequence[ExploredRef | AllMissing]) -> Frontier:
    """Gather what every shard says of every λ, and save it: JSON, a picture, a page."""
    missing = missing_of(ref if isinstance(ref, AllMissing) else ref.scored for ref in explored)
    config = plan.recipe.config
    assert isinstance(config, Sweep)
    made = [ref for ref in explored if not isinstance(ref, AllMissing)]
    points = _points(made, config.lams)
    folder = filesystem.join(config.save_directory, names.swept(plan))
    found = Frontier(
        values=tuple(spec.value for spec in plan.recipe.rewards),
        base=points[0].levels,
        points=tuple(points[1:]),
        prompts=plan.n_prompts - len(missing),
        n=config.nsamples,
        json=f"{folder}.json",
        folder=folder,
        data_sets=tuple((place + 1, _data_set(plan, config.vectors[place])) for place in config.saved),
        missing=missing,
    )
    _save(plan, found, pool_entries.named(plan.shards, made))
    return found


def _data_set(plan: Plan, lam: Lam) -> str:
    return filesystem.join(plan.recipe.config.save_directory, names.stem(tilted(plan, lam)))


def _save(plan: Plan, found: Frontier, entries: dict[str, Any]) -> None:
    figure = figures.frontier(found)
    filesystem.write_json(found.json, [record(found.values, point) for point in found.points])
    filesystem.write_bytes(filesystem.join(found.folder, "frontier.png"), figures.png(figure))
    filesystem.write_bytes(
        filesystem.join(found.folder, "index.html"), web_page.frontier(found, figures.svg(figure))
    )
    said = {
        **manifest.provenance(plan),
        "base": {v: asdict(level) for v, level in zip(found.values, found.base, strict=True)},
        "points": len(found.points),
        "missing": [asdict(prompt) for prompt in found.missing],
        **entries,
    }
    filesystem.write_json(filesystem.join(found.folder, pool.MANIFEST), said)
