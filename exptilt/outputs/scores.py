"""A scored file: the records with their new values, written anew.

R records, K samples of each (one, or two of a pair), S samples in all, V values.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from exptilt.data import added_columns, record_files, records
from exptilt.data.added_columns import Column
from exptilt.errors import RefusedError
from exptilt.outputs import manifest, pool_entries
from exptilt.planning.score_file import ScorePlan, target_of
from exptilt.reports.estimate import estimate_of
from exptilt.reports.provenance import made_with
from exptilt.reports.scores import Scores, preference_of
from exptilt.run import in_its_run
from exptilt.stages.references import RewardsRef, SamplesRef, flat
from exptilt.stages.tables import described, read
from exptilt.storage import access_errors, filesystem, keys
from exptilt.storage.paths import is_local


@in_its_run
def save(scored_plan: ScorePlan, scored: Sequence[RewardsRef]) -> Scores:
    """Write the records with their new values; the old file stays until the new one is whole."""
    config = scored_plan.config
    if record_files.digest(config.file) != scored_plan.digest:
        raise RefusedError(f"{config.file} changed while it was scored; run again")
    result = Scores(
        file=target_of(config),
        records=scored_plan.records,
        shards=len(scored_plan.shards),
        skipped=dict(Counter(scored_plan.skipped.values())),
    )
    with tempfile.TemporaryFile() as f, tempfile.TemporaryFile() as g:
        rows = _in_order(scored_plan, _gathered(scored_plan, scored, f), g)
        numbers = partial(_numbers, scored_plan.columns, rows)
        added_columns.write(record_files.files_of(config.file), config.output, numbers)
        _add_numbers(result, scored_plan, rows)
    _note(scored_plan, scored, result.file)
    for spec in scored_plan.rewards:
        mine = [ref for ref in scored if ref.value == spec.value]
        result.reused[spec.value] = sum(ref.cached for ref in mine)
        result.cut[spec.value] = sum(described(p).meta.get("cut", 0) for ref in mine for p in flat(ref.parts))
    return result


def _note(scored_plan: ScorePlan, scored: Sequence[RewardsRef], file: str) -> None:
    """Note in the pool how the scored file was made, and of which entries, as a data set's manifest does."""
    place = os.path.abspath(file) if is_local(file) else file
    paths = [samples.shard.prompts for samples in scored_plan.shards]
    paths += [path for samples in scored_plan.shards for path in flat(samples.parts)]
    paths += [path for ref in scored for path in pool_entries.of_rewards(ref)]
    said = {
        "scored": place,
        "configuration": scored_plan.config.model_dump(mode="json"),
        "rewards": [spec.described for spec in scored_plan.rewards],
        "made_with": made_with(),
        "finished": manifest.now(),
        **pool_entries.names(paths),
    }
    key = keys.content_key([place, scored_plan.columns])
    filesystem.write_json(f"{scored_plan.workspace.path('scored', key)}.json", said)


def _numbers(columns: Sequence[str], rows: NDArray[np.float64], first: int, last: int) -> dict[str, Column]:
    """The columns of the records first..last-1, from the rewards [R, V, K]; None for those left out."""
    by_column = rows[first:last].reshape(last - first, -1).T
    return {
        name: [None if np.isnan(number) else number for number in numbers.tolist()]
        if np.isnan(numbers).any()
        else numbers.tolist()
        for name, numbers in zip(columns, by_column, strict=True)
    }


def _add_numbers(result: Scores, scored_plan: ScorePlan, rows: NDArray[np.float64]) -> None:
    """Enter each column's mean, and how the sides of pairs compare, from the rewards [R, V, K]."""
    for at, spec in enumerate(scored_plan.rewards):
        sides = rows[:, at].T.copy()
        sides = sides[:, ~np.isnan(sides[0])]
        for column, side in zip(scored_plan.shape.columns([spec.value]), sides, strict=True):
            result.means[column] = estimate_of(side)
        if scored_plan.shape.sides:
            result.preferences[spec.value] = preference_of(*sides)


def _gathered(scored_plan: ScorePlan, scored: Sequence[RewardsRef], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [V, S] in the order of the pool's samples, kept in `f`."""
    with access_errors.clear_errors(tempfile.gettempdir(), "write"):
        for spec in scored_plan.rewards:
            for part in (part for ref in scored if ref.value == spec.value for part in flat(ref.parts)):
                f.write(read(part, "rewards")["reward"].to_numpy().tobytes())
        f.flush()
    samples = scored_plan.records * scored_plan.shape.samples
    return np.memmap(f, np.float64, "r", shape=(len(scored_plan.rewards), samples))


def _counts(samples: SamplesRef) -> list[int]:
    """How many samples each prompt of a shard has."""
    parts = [read(part, "samples").select("prompt_id") for part in flat(samples.parts)]
    return pl.concat(parts).group_by("prompt_id", maintain_order=True).len()["len"].to_list()


def _in_order(scored_plan: ScorePlan, numbers: NDArray[np.float64], f: IO[bytes]) -> NDArray[np.float64]:
    """The rewards [R, V, K] in the order of the file's records, NaN for those left out, kept in `f`."""
    config, shape = scored_plan.config, scored_plan.shape
    starts = np.cumsum([0, *(n for samples in scored_plan.shards for n in _counts(samples))])
    names, skipped = (config.prompt_column, config.generated_column), dict(scored_plan.skipped)
    for block, table in records.tables(config.file, *names, shape=shape, unusable=skipped or None):
        at = starts[table["place"].to_numpy()] + table["sample_index"].to_numpy()
        rows = np.full((len(block.records), len(numbers), shape.samples), np.nan)
        kept = table["record"].to_numpy()[:: shape.samples] - block.number
        rows[kept] = numbers[:, at].reshape(len(numbers), -1, shape.samples).swapaxes(0, 1)
        with access_errors.clear_errors(tempfile.gettempdir(), "write"):
            f.write(rows.tobytes())
            f.flush()
    total = scored_plan.records + len(scored_plan.skipped)
    return np.memmap(f, np.float64, "r", shape=(total, len(numbers), shape.samples))
