"""One prompt of a data set that lies in a folder, with its samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from exptilt.errors import ConfigError, MissingError
from exptilt.outputs.shown_prompts import ShardTables, shown
from exptilt.reports.shown import ShownPrompt
from exptilt.storage import filesystem, pool

SAMPLE = ["prompt_id", "sample_index"]


def find(folder: str, prompt: str = "") -> ShownPrompt:
    """A prompt of the data set in `folder`.

    Args:
        folder: as a run names it: local, or on S3.
        prompt: its id or its index; the first one if empty.

    Raises:
        ConfigError: there is no data set, or no such prompt in it.
    """
    try:
        manifest = filesystem.read_json(filesystem.join(folder, pool.MANIFEST))
        files = list(manifest["files"])
    except (MissingError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: no data set lies there; give the folder that a run names") from error
    for path in sorted(file for file in files if file.startswith("prompts/")):
        prompts = _read(folder, path)
        found = prompts.head(1) if not prompt else prompts.filter(_is(prompt))
        if found.height:
            part = path.partition("/")[2]
            mine = {name: _read(folder, name) for name in files if name.endswith(f"/{part}")}
            return next(shown(_tables(found, mine, part, manifest), found["prompt_id"].to_list()))
    raise ConfigError(f"--prompt {prompt}: {folder} has no prompt of this id or index")


def _is(prompt: str) -> pl.Expr:
    index = int(prompt) if prompt.isdecimal() and len(prompt) < 18 else -1
    return (pl.col("prompt_id") == prompt) | (pl.col("prompt_index") == index)


def _read(folder: str, path: str) -> pl.DataFrame:
    return pl.read_parquet(filesystem.read_bytes(filesystem.join(folder, path)))


def _tables(
    prompts: pl.DataFrame, mine: Mapping[str, pl.DataFrame], part: str, manifest: dict[str, Any]
) -> ShardTables:
    lam = {str(change["value"]): float(change["lam"]) for change in manifest["summary"]["values"]}
    return ShardTables(
        prompts=prompts,
        samples=_with_values(mine[f"samples/{part}"], mine, part, list(lam)),
        lam=lam,
        draws=mine.get(f"draws/{part}"),
        diagnostics=mine.get(f"diagnostics/{part}"),
        has_pairs=any(name.startswith("pairs") for name in mine),
        refined=mine.get(f"refined/{part}"),
    )


def _with_values(
    samples: pl.DataFrame, mine: Mapping[str, pl.DataFrame], part: str, values: Sequence[str]
) -> pl.DataFrame:
    for value in values:
        rewards = mine[f"rewards/{value}/{part}"].select(*SAMPLE, pl.col("reward").alias(value))
        samples = samples.drop(value, strict=False).join(rewards, on=SAMPLE, maintain_order="left")
    return samples
