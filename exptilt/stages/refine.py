"""Refine: the draws of a shard moved on by suffix Metropolis–Hastings, and chains that say how far they came.

The second chains begin at draws of 2 λ, move there, and then at λ, by the same seeds as the first ones: where
they come down to what these have come up to, the level lies between, and chains that meet stay together.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.engines.base import Sample
from exptilt.stages import deaths
from exptilt.stages.blocks import blocks_of
from exptilt.stages.chain_states import Kernel, drawn_again
from exptilt.stages.chains import Advanced, Stand, advance
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, Ranges, RefinedRef, SamplesRef
from exptilt.stages.resample import resample
from exptilt.stages.shards import samples_of_some, samples_without
from exptilt.stages.tables import digests, origin_of, prompts_of, read
from exptilt.storage import keys, schemas

LOTS: Final = 2**63
BEGIN: Final = [name for name in schemas.CHAINS if name not in ("trace", "log_weight")]  # of a state
AT_LAM, AT_TWICE = "refine", "refine at 2λ"  # what moves are called in seeds and keys


def refine(recipe: Recipe, draws: DrawsRef) -> DrawsRef:
    """The draws of a shard with as many moves as the run asks for, and the chains that bracket them.

    Raises:
        PromptsFailed: the engine or a value fails at some prompts, and the run does not allow missing ones.
    """
    try:
        return replace(draws, refined=_refined(recipe, draws))
    except PromptsFailed as error:
        if not recipe.workspace.allow_missing:
            raise
        left = samples_without(recipe, draws.samples, error.missing)
        return refine(recipe, resample(recipe, left, draws.rewards))


def _refined(recipe: Recipe, draws: DrawsRef) -> RefinedRef:
    """Both sets of chains: the first and the second ones' moves at 2 λ together, then the latter at λ."""
    rows = {row["prompt_id"]: row for row in prompts_of(draws.samples.shard).to_dicts()}
    kernel = Kernel(recipe=recipe, prompts=rows, name=AT_LAM)
    doubled = _doubled(kernel, draws)
    first = _stands(kernel, draws)
    above = _stands(replace(kernel, recipe=doubled[0], name=AT_TWICE), doubled[1]) if doubled else []
    up = advance([*first, *above], _moves(recipe))
    back = advance([replace(stand, kernel=kernel) for stand in up.stands[len(first) :]], _moves(recipe))
    cached = up.cached and back.cached
    if not cached:
        deaths.note_computed(recipe.workspace)
    return RefinedRef(
        paths=_paths(up, slice(len(first))),
        certified=doubled[1].samples.shard.prompts if doubled else "",
        doubled=doubled[1].paths if doubled else (),
        above=_paths(up, slice(len(first), None)) if doubled else (),
        back=_paths(back, slice(None)) if doubled else (),
        cached=cached,
        tokens=up.tokens + back.tokens,
        seconds=up.seconds + back.seconds,
    )


def _moves(recipe: Recipe) -> int:
    assert isinstance(recipe.config, MCAligned)
    return recipe.config.refine


def _paths(part: Advanced, blocks: slice) -> Ranges:
    return tuple(tuple(entry.path for entry in entries[blocks]) for entries in part.entries)


def _certified(recipe: Recipe, samples: SamplesRef) -> list[str]:
    """The prompts of a shard, by lot, that have second chains."""
    names = prompts_of(samples.shard)["prompt_id"].to_list()
    return [n for n in names if keys.seed_for(recipe.config.seed, n, "certified") < recipe.certified * LOTS]


def _doubled(kernel: Kernel, draws: DrawsRef) -> tuple[Recipe, DrawsRef] | None:
    """The recipe at 2 λ, and its draws of the prompts that have second chains; None where none has."""
    recipe = kernel.recipe
    certified = _certified(recipe, draws.samples)
    if not certified:
        return None
    twice = _at_twice(recipe)
    return twice, resample(twice, samples_of_some(recipe, draws.samples, certified), draws.rewards)


def _at_twice(recipe: Recipe) -> Recipe:
    """The recipe at 2 λ."""
    config = recipe.config
    assert isinstance(config, MCAligned)
    return replace(recipe, config=config.model_copy(update={"lam": tuple(2 * lam for lam in config.lam)}))


def _stands(kernel: Kernel, draws: DrawsRef) -> list[Stand]:
    """Where the chains of each block begin: at its draws."""
    numbers = [block.number for block in blocks_of(prompts_of(draws.samples.shard))]
    return [
        Stand(
            kernel=kernel,
            name=digests([path]),
            states=partial(_drawn, kernel, draws, path, number),
            origin=origin_of(path),
        )
        for number, path in zip(numbers, draws.paths, strict=True)
    ]


def _drawn(kernel: Kernel, draws: DrawsRef, path: str, number: int) -> pl.DataFrame:
    """The draws of a block as states."""
    kept = read(path, "draws").select("prompt_id", "draw_index", "sample_index", "log_weight")
    samples = _rows_of(kept, draws.samples.parts[number], "samples")
    table = kept.join(_with_tokens(kernel, samples), on=schemas.SAMPLE, maintain_order="left")
    for place, ref in enumerate(draws.rewards):
        mine = _rows_of(kept, ref.parts[number], "rewards")
        mine = mine.select(*schemas.SAMPLE, pl.col("reward").alias(f"reward {place}"))
        table = table.join(mine, on=schemas.SAMPLE, maintain_order="left")
    numbers = pl.concat_list(f"reward {place}" for place in range(len(draws.rewards)))
    return table.with_columns(rewards=numbers, accepted=0).select(BEGIN)


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
