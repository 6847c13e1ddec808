"""Totals of a run's chains: shard after shard the path of every prompt, at the end how far they came."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import polars as pl

from exptilt.outputs.refined_rows import first_paths, second_paths
from exptilt.reports.estimate import estimate
from exptilt.reports.refinement import Point, Refinement, Steering
from exptilt.reports.shard_figures import Moments
from exptilt.stages.chains import ranges
from exptilt.stages.references import DrawsRef, RefinedRef
from exptilt.stages.tables import read
from exptilt.storage.spooled_tables import Spool
from exptilt.tilting import convergence
from exptilt.tilting.weights import Floats

ENDS = ["begin", "half", "end"]  # of a path, which the verdict is of
Course = dict[int, list[Moments]]  # of the shards, by how many moves


class ChainTotals:
    """What the summary of `moves` moves needs of every prompt; memory holds a shard's paths at a time."""

    def __init__(self, moves: int) -> None:
        self.moves, self.shards, self.reused = moves, 0, 0
        self.accepted = self.chains = self.tokens = self.certificate = 0
        self.seconds = 0.0
        self._first, self._second = Spool(), Spool()
        self._shown = sorted({n for n in (0, 1, 2, 4) if n <= moves} | {end for _, end in ranges(moves)})
        self._steered, self._variances = list[pl.DataFrame](), list[pl.Series]()
        self._courses: tuple[Course, Course] = defaultdict(list), defaultdict(list)

    def enter(self, shard: DrawsRef, levels: pl.DataFrame, lam: Mapping[str, float]) -> None:
        """Add a shard; `levels` are those of its prompts and values."""
        refined = shard.refined
        assert refined
        first = first_paths(shard)
        base = first.select("prompt_id").join(_base(levels, lam), on="prompt_id", maintain_order="left")
        self._first.append(pl.concat([self._noted(first, 0), base.select("base")], how="horizontal"))
        if refined.certified:
            self._second.append(self._noted(second_paths(shard, np.array([*lam.values()])), 1))
        self._steered += [_blocks(read(path, "populations")) for path in refined.steered]
        if refined.populations:
            self._variances.append(_variances(refined))
        self._count(refined)

    def _count(self, refined: RefinedRef) -> None:
        ends = pl.concat([read(path, "chains") for path in refined.paths[-1]])
        self.accepted, self.chains = self.accepted + int(ends["accepted"].sum()), self.chains + ends.height
        self.tokens, self.seconds = self.tokens + refined.tokens, self.seconds + refined.seconds
        self.certificate += refined.certificate
        self.reused, self.shards = self.reused + refined.cached, self.shards + 1

    def _noted(self, paths: pl.DataFrame, which: int) -> pl.DataFrame:
        """The prompts with the ends of their paths; the means of all go into a course."""
        numbers = np.array(paths["path"].to_list())
        for place in self._shown:
            self._courses[which][place].append(Moments.of(numbers[:, place]))
        ends = numbers[:, [0, self.moves // 2, self.moves]]
        return paths.select("prompt_id").with_columns(pl.DataFrame(ends, ENDS))

    def refinement(self) -> Refinement:
        """How far the moves came."""
        first, second = (pl.concat(list(spool.tables())) for spool in (self._first, self._second))
        places = first.select("prompt_id").with_row_index("row")
        rows = second.join(places, on="prompt_id", maintain_order="left")["row"].to_numpy()
        above, course = _points(self._courses[1]), _points(self._courses[0])
        spread = np.sqrt(pl.concat(self._variances).to_numpy().mean()) if self._variances else 0.0
        ends = _ends(first), _ends(second)
        return Refinement(
            moves=self.moves,
            chains=self.chains,
            certified=second.height,
            acceptance=self.accepted / (self.moves * self.chains),
            tokens=self.tokens,
            certificate=self.certificate,
            seconds=self.seconds,
            course=course,
            above=above,
            steering=_steering(pl.concat(self._steered), float(spread)) if self._steered else None,
            convergence=convergence.judge(first["base"].to_numpy(), *ends, rows, float(spread)),
        )


def _blocks(populations: pl.DataFrame) -> pl.DataFrame:
    """Sums over the prompts of an entry, a row for each block of tokens."""
    weight = pl.col("live")
    return populations.group_by("block_end", maintain_order=True).agg(
        prompts=pl.len(),
        copies=pl.col("copies").sum(),
        explained=(pl.col("explained") * weight).sum(),
        live=weight.sum(),
        log_z=pl.col("log_z").sum(),
        squares=(pl.col("log_z") ** 2).sum(),
    )


def _variances(refined: RefinedRef) -> pl.Series:
    """The variance of log Ẑ between the populations of each prompt that has several."""
    others, first = (
        pl.concat([read(path, "populations") for path in paths])
        .group_by("prompt_id", "block_end", maintain_order=True)
        .agg(pl.col("log_z"))
        .unique("prompt_id", keep="first", maintain_order=True)
        for paths in (refined.populations, refined.steered)
    )
    both = others.join(first, on="prompt_id", maintain_order="left")
    return both.select(pl.col("log_z").list.concat("log_z_right").list.var())["log_z"]


def _steering(sums: pl.DataFrame, spread: float) -> Steering:
    """How the samples of all entries were steered."""
    whole = sums.group_by("block_end").sum().sort("block_end")
    first = whole.row(0, named=True)
    reached = whole.filter(pl.col("live") > 0)
    shares = reached.select("block_end", pl.col("explained") / pl.col("live"))
    return Steering(
        prompts=first["prompts"],
        copies=whole["copies"].sum() / first["prompts"],
        explained=dict(shares.iter_rows()),
        log_z=estimate(first["log_z"], first["squares"], first["prompts"]),
        spread=spread,
    )


def _base(levels: pl.DataFrame, lam: Mapping[str, float]) -> pl.DataFrame:
    """Mean Σ λ r of every prompt's samples."""
    terms = pl.col("base") * pl.col("value").cast(pl.String).replace_strict(lam, return_dtype=pl.Float64)
    return levels.group_by("prompt_id").agg(base=terms.sum())


def _ends(table: pl.DataFrame) -> Floats:
    return table.select(ENDS).to_numpy()


def _points(course: Course) -> list[Point]:
    return [Point(moves=place, level=Moments.over(parts).estimate) for place, parts in course.items()]
