"""The tables: their columns and types, and the check that a table is what it says.

P prompts, N samples per prompt, V values; key columns first; no nulls unless listed in NULLABLE (what an
engine cannot say, and what is not known of texts that were not drawn here).
"""

from typing import Final

import numpy as np
import polars as pl

from exptilt.errors import StorageError

MESSAGES: Final = pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))
PROMPTS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "prompt_index": pl.Int64(),
        "prompt": pl.String(),
        "source": pl.String(),
        "messages": MESSAGES,  # of a conversation, whose `prompt` is the text that people read
        "reference": pl.String(),  # the data set's own answer
    }
)
SAMPLES: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "sample_index": pl.Int32(),
        "completion": pl.String(),
        "n_tokens": pl.Int32(),
        "finish_reason": pl.Categorical(),
        "logprob": pl.Float64(),
        "nll": pl.Float64(),
        "seed": pl.Int64(),
        "tokens": pl.List(pl.UInt32()),
        "reasoning": pl.String(),  # that a server set apart from the completion
    }
)
REWARDS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "sample_index": pl.Int32(),
        "value": pl.Categorical(),
        "reward": pl.Float64(),
    }
)
DRAWS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "draw_index": pl.Int32(),
        "sample_index": pl.Int32(),
        "log_weight": pl.Float64(),
        "weight": pl.Float64(),
    }
)
DIAGNOSTICS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "n": pl.Int32(),
        "ess": pl.Float64(),
        "max_weight": pl.Float64(),
        "khat": pl.Float64(),
        "log_z": pl.Float64(),
        "log_z_se": pl.Float64(),
        "kl": pl.Float64(),
        "kl_se": pl.Float64(),
        "n_needed": pl.Float64(),
        "n_unique": pl.Int32(),
    }
)
CHAINS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "draw_index": pl.Int32(),
        "sample_index": pl.Int32(),  # of the sample that the chain began at
        "completion": pl.String(),
        "n_tokens": pl.Int32(),
        "finish_reason": pl.Categorical(),
        "nll": pl.Float64(),
        "tokens": pl.List(pl.UInt32()),
        "rewards": pl.List(pl.Float64()),  # in the values' order
        "log_weight": pl.Float64(),
        "accepted": pl.Int32(),  # moves, of all so far
        "trace": pl.List(pl.Float64()),  # Σ λ r after each move of the entry
    }
)
BEGINNINGS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "tokens": pl.List(pl.UInt32()),  # the first ones of a completion
        "rewards": pl.List(pl.Float64()),  # of these as if they were all, in the values' order
    }
)
POPULATIONS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "block_end": pl.Int32(),  # tokens
        "live": pl.Int32(),  # particles that go on behind it
        "intercept": pl.Float64(),
        "slope": pl.Float64(),
        "explained": pl.Float64(),
        "copies": pl.Int32(),  # particles that were replaced by others
        "log_z": pl.Float64(),  # of the whole population, the same in each row
    }
)
SAMPLE: Final = ["prompt_id", "sample_index"]  # what tells a prompt's samples apart
COUNTS: Final = pl.Schema({"prompt_id": pl.String(), "n": pl.Int32()})
LEVELS: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "value": pl.Categorical(),
        "base": pl.Float64(),
        "drawn": pl.Float64(),
        "weighted": pl.Float64(),
        "limit": pl.Float64(),
    }
)
SPREAD: Final = pl.Schema({"prompt_id": pl.String(), "sample_index": pl.Int32(), "spread": pl.Float64()})
SPREADS: Final = pl.Schema(
    {"prompt_id": pl.String(), "value": pl.Categorical(), "before": pl.Float64(), "after": pl.Float64()}
)
EXPLORED: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "lam_index": pl.Int32(),
        "n": pl.Int32(),
        "levels": pl.List(pl.Float64()),
        "ess": pl.Float64(),
        "max_weight": pl.Float64(),
        "kl": pl.Float64(),
        "n_needed": pl.Float64(),
    }
)
TABLES: Final[dict[str, pl.Schema]] = {
    "prompts": PROMPTS,
    "samples": SAMPLES,
    "rewards": REWARDS,
    "draws": DRAWS,
    "diagnostics": DIAGNOSTICS,
    "chains": CHAINS,
    "beginnings": BEGINNINGS,
    "populations": POPULATIONS,
    "counts": COUNTS,
    "levels": LEVELS,
    "spread": SPREAD,  # across an ensemble's members, beside its rewards
    "spreads": SPREADS,  # of all samples and of those kept, beside the draws
    "explored": EXPLORED,
}
NULLABLE: Final = frozenset(
    {"logprob", "nll", "n_tokens", "finish_reason", "seed", "tokens", "reasoning", "messages", "reference"}
)  # null in imported texts, too
LATER: Final = frozenset(
    {"tokens", "reasoning", "messages", "reference"}
)  # not written where all of it is null: such tables keep their digests


def completed(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """`table` with the columns of table `name` that it lacks and that may be null, as nulls: an older pool
    was written before there was such a column."""
    lacking = [column for column in TABLES[name] if column not in table.columns and column in NULLABLE]
    if not lacking:
        return table
    nulls = {column: pl.lit(None, dtype=TABLES[name][column]).alias(column) for column in lacking}
    order = sorted([*table.columns, *nulls], key=[*TABLES[name], *table.columns].index)
    return table.select(nulls.get(column, pl.col(column)) for column in order)


def stored(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """Table `name` as it is written: without the columns of LATER that are null throughout, which `completed`
    puts back."""
    empty = [c for c in table.columns if c in LATER and table[c].null_count() == table.height]
    return table.drop(empty) if empty else table


def validate(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """Return `table` if its columns, types and nulls are those of table `name`.

    No number is NaN; an infinite one may be. Raises StorageError that names the table and the column.
    """
    if table.schema != TABLES[name]:
        found = ", ".join(f"{c} {t}" for c, t in table.schema.items())
        raise StorageError(f"table {name!r} has the wrong columns: {found}")
    for column in table:
        if column.null_count() and column.name not in NULLABLE:
            raise StorageError(f"table {name!r} has nulls in column {column.name!r}")
        if _has_nan(column):
            raise StorageError(f"table {name!r} has NaN in column {column.name!r}")
    return table


def _has_nan(column: pl.Series) -> bool:
    """Whether a column of numbers, or of lists of them, holds NaN; nulls are none."""
    if isinstance(column.dtype, pl.List) and column.dtype.inner.is_float():
        column = column.explode()
    if not column.dtype.is_float():
        return False
    known = column.drop_nulls() if column.null_count() else column
    return bool(np.isnan(known.to_numpy()).any())
