"""The file of an ensemble from a finished run: each member's mean and sd over the run's samples of p0."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from exptilt import rewards
from exptilt.errors import ConfigError, MissingError
from exptilt.rewards.ensemble_file import is_ensemble
from exptilt.storage import filesystem, pool

HEAD = 'kind = "mean"  # or "min", or "mean-k-sd" with k = a number'


def constants(folder: str, values: Sequence[str] = ()) -> str:
    """The text of an ensemble's file; sd by n - 1, over all samples of all prompts.

    Args:
        folder: the data set of a run that scored the members, as its summary names it.
        values: the members as the run's --value has them, or their columns; all of the run's if none.

    Raises:
        ConfigError: the folder is no finished run's, or a value is not one that it scored, is an ensemble, or
            is the same at every sample.
    """
    folder = folder.rstrip("/")
    manifest = _manifest(folder)
    columns = _columns(manifest["configuration"])
    both = {**columns, **{column: column for column in columns.values()}}
    lines = [HEAD, f"pool = {json.dumps(filesystem.join(folder).rpartition('/')[2])}", "", "[members]"]
    for value in values or list(columns):
        if value not in both or is_ensemble(rewards.parse(value).source):
            raise ConfigError(f"{folder} has no member {value!r}: its values are {', '.join(columns)}")
        written = next(name for name, column in columns.items() if column == both[value])
        mean, sd = _mean_and_sd(folder, manifest, both[value])
        lines.append(f"{json.dumps(written, ensure_ascii=False)} = {{ mean = {mean!r}, sd = {sd!r} }}")
    return "\n".join(lines)


def _columns(configuration: dict[str, Any]) -> dict[str, str]:
    """The column of each of the run's values."""
    values = rewards.expand(configuration["value"], configuration["basemodel"], configuration["data"])
    return {value: rewards.column_of(value) for value in values}


def _manifest(folder: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = filesystem.read_json(filesystem.join(folder, pool.MANIFEST))
    except MissingError as error:
        raise ConfigError(f"{folder} holds no finished data set: name the folder of a run") from error
    if "value" not in manifest.get("configuration", {}) or "files" not in manifest:
        raise ConfigError(f"{folder} holds no rewards of p0's samples: name the folder of a tilted run")
    return manifest


def _mean_and_sd(folder: str, manifest: dict[str, Any], column: str) -> tuple[float, float]:
    """Over the first n samples of every prompt: what top-up adds is not drawn for all prompts alike."""
    n = manifest["configuration"]["nsamples"]
    paths = [path for path in manifest["files"] if path.startswith(f"rewards/{column}/")]
    tables = [pl.read_parquet(filesystem.read_bytes(filesystem.join(folder, path))) for path in paths]
    kept = [table.filter(pl.col("sample_index") < n)["reward"].to_numpy() for table in tables]
    numbers = np.concatenate(kept)
    if np.ptp(numbers) == 0:
        raise ConfigError(f"{folder}: value {column!r} is {numbers[0]:g} at every sample, which has no sd")
    return float(numbers.mean()), float(numbers.std(ddof=1))
