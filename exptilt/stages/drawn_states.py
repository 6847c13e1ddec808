"""Samples of a block of the pool as states that chains begin at, with their tokens and rewards."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.engines.base import Sample
from exptilt.stages.blocks import Block
from exptilt.stages.chain_states import Kernel, drawn_again
from exptilt.stages.references import DrawsRef
from exptilt.stages.tables import even_order, in_order, read
from exptilt.storage import schemas

BEGIN: Final = [name for name in schemas.CHAINS if name not in ("trace", "log_weight")]  # of a state


def states_at(kernel: Kernel, draws: DrawsRef, kept: pl.DataFrame, number: int) -> pl.DataFrame:
    """Samples of a block as states.

    Args:
        kernel: the prompts, and what draws again where the pool has no tokens.
        draws: of the shard; their samples and rewards are read.
        kept: prompt_id, draw_index and sample_index of each state.
        number: the block's.

    Returns:
        The states, in the order of `kept`.
    """
    samples = _rows_of(kept, draws.samples.parts[number], "samples")
    table = kept.join(_with_tokens(kernel, samples), on=schemas.SAMPLE, maintain_order="left")
    for place, ref in enumerate(draws.rewards):
        mine = _rows_of(kept, ref.parts[number], "rewards")
        mine = mine.select(*schemas.SAMPLE, pl.col("reward").alias(f"reward {place}"))
        table = table.join(mine, on=schemas.SAMPLE, maintain_order="left")
    numbers = pl.concat_list(f"reward {place}" for place in range(len(draws.rewards)))
    return table.with_columns(rewards=numbers, accepted=0).select(BEGIN)


def all_states(kernel: Kernel, draws: DrawsRef, block: Block) -> pl.DataFrame:
    """All samples of a block that the run has as states, prompt by prompt."""
    config = kernel.recipe.config
    assert isinstance(config, MCAligned)
    tables = [read(part, "samples") for part in draws.samples.parts[block.number]]
    samples = in_order(tables, even_order(block.prompts, config.nsamples))
    kept = samples.select(*schemas.SAMPLE).with_columns(draw_index=0)
    return states_at(kernel, draws, kept, block.number)


def _rows_of(kept: pl.DataFrame, parts: Sequence[str], name: str) -> pl.DataFrame:
    """The rows of entries that belong to the samples `kept`."""
    table = pl.concat([read(part, name) for part in parts])
    return table.unique(schemas.SAMPLE, keep="first", maintain_order=True).join(
        kept, on=schemas.SAMPLE, how="semi"
    )


def _with_tokens(kernel: Kernel, samples: pl.DataFrame) -> pl.DataFrame:
    """The samples, those of a pool without tokens drawn again."""
    lacking = samples.filter(pl.col("tokens").is_null())
    if lacking.is_empty():
        return samples
    names = ("completion", "n_tokens", "finish_reason", "logprob", "nll")
    texts = [Sample(**row) for row in lacking.select(names).iter_rows(named=True)]
    found = drawn_again(kernel, texts, lacking["prompt_id"].to_list(), lacking["seed"].to_numpy())
    tokens = pl.Series([sample.tokens for sample in found], dtype=schemas.SAMPLES["tokens"])
    return pl.concat([samples.filter(pl.col("tokens").is_not_null()), lacking.with_columns(tokens=tokens)])
