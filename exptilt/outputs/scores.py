"""A scored file: the records with their new values, written anew."""

import tempfile
from collections.abc import Sequence
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.data import added_columns, records
from exptilt.errors import RefusedError
from exptilt.planning.score_file import ScorePlan, target_of
from exptilt.reports.scores import Scores
from exptilt.reports.summary import estimate_of
from exptilt.run import in_its_run
from exptilt.stages.references import RewardsRef, SamplesRef, flat
from exptilt.stages.tables import described, read
from exptilt.storage import filesystem


@in_its_run
def save(scored_plan: ScorePlan, scored: Sequence[RewardsRef]) -> Scores:
    """Write the records with their new values; the old file stays until the new one is whole."""
    config = scored_plan.config
    if filesystem.digest(config.file) != scored_plan.digest:
        raise RefusedError(f"{config.file} changed while it was scored; run again")
    target, values = target_of(config), [spec.value for spec in scored_plan.rewards]
    result = Scores(file=target, records=scored_plan.records, shards=len(scored_plan.shards))
    with tempfile.TemporaryFile() as f, tempfile.TemporaryFile() as g:
        numbers = _gathered(scored_plan, scored, f)
        rows = _in_order(scored_plan, numbers, g)
        added_columns.write(
            config.file,
            target,
            lambda first, last: dict(zip(values, rows[first:last].T.tolist(), strict=True)),
        )
        for value, row in zip(values, numbers, strict=True):
            result.means[value] = estimate_of(row)
            mine = [ref for ref in scored if ref.value == value]
            result.reused[value] = sum(ref.cached for ref in mine)
            result.cut[value] = sum(described(p).meta.get("cut", 0) for ref in mine for p in flat(ref.parts))
    return result


def _gathered(scored_plan: ScorePlan, scored: Sequence[RewardsRef], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [V, S] in the order of the pool's samples, kept in `f`."""
    with filesystem.clear_errors(tempfile.gettempdir(), "write"):
        for spec in scored_plan.rewards:
            for part in (part for ref in scored if ref.value == spec.value for part in flat(ref.parts)):
                f.write(read(part, "rewards")["reward"].to_numpy().tobytes())
        f.flush()
    shape = (len(scored_plan.rewards), scored_plan.records)
    return np.memmap(f, np.float64, "r", shape=shape)


def _counts(samples: SamplesRef) -> list[int]:
    """How many samples each prompt of a shard has."""
    parts = [read(part, "samples").select("prompt_id") for part in flat(samples.parts)]
    return pl.concat(parts).group_by("prompt_id", maintain_order=True).len()["len"].to_list()


def _in_order(scored_plan: ScorePlan, numbers: NDArray[np.float64], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [S, V] in the order of the file's records, kept in `f`."""
    config = scored_plan.config
    starts = np.cumsum([0, *(n for samples in scored_plan.shards for n in _counts(samples))])
    for _, table in records.tables(config.file, config.prompt_column, config.generated_column):
        at = starts[table["place"].to_numpy()] + table["sample_index"].to_numpy()
        with filesystem.clear_errors(tempfile.gettempdir(), "write"):
            f.write(numbers[:, at].T.tobytes())
            f.flush()
    return np.memmap(f, np.float64, "r", shape=numbers.shape[::-1])
