"""Refine: the draws of a shard moved on by suffix Metropolis–Hastings, and chains that say how far they came.

The second chains begin at draws of 2 λ, move there, and then at λ, by the same seeds as the first ones: where
they come down to what these have come up to, the level lies between, and chains that meet stay together.
"""

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Final

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.stages import deaths
from exptilt.stages.blocks import blocks_of
from exptilt.stages.chain_states import Kernel
from exptilt.stages.chains import Advanced, Stand, advance, stand_of
from exptilt.stages.drawn_states import states_at
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import DrawsRef, Ranges, RefinedRef, SamplesRef
from exptilt.stages.resample import resample
from exptilt.stages.shards import samples_of_some, samples_without
from exptilt.stages.steered_draws import (
    Calibration,
    Entries,
    calibration_of,
    other_populations,
    steered_draws,
)
from exptilt.stages.tables import digests, origin_of, prompts_of, read
from exptilt.storage import keys, pool

LOTS: Final = 2**63
Doubled = tuple[Recipe, DrawsRef]  # at 2 λ
Begun = tuple[list[Stand], Entries]
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
    certified = _certified(recipe, draws.samples)
    calibration = calibration_of(kernel, draws) if recipe.steers else None
    begun = calibration.beginnings if calibration else []
    first, steered = _begin(kernel, draws, calibration)
    others = other_populations(kernel, calibration, certified) if calibration else []
    doubled = _doubled(kernel, draws, certified)
    above, more = _above(kernel, doubled, calibration)
    up = advance([*first, *above], _moves(recipe))
    back = advance([replace(stand, kernel=kernel) for stand in up.stands[len(first) :]], _moves(recipe))
    new = [*up.new, *back.new, *_new([*begun, *steered, *others, *more])]
    if new:
        deaths.note_computed(recipe.workspace)
    paths = _paths(up, slice(len(first)))
    return RefinedRef(
        paths=paths,
        beginnings=_named(begun),
        steered=_named(steered),
        populations=_named(others),
        **_second(doubled, more, _paths(up, slice(len(first), None)), _paths(back, slice(None))),
        **_cost(new, {*_named([*begun, *steered]), *chain.from_iterable(paths)}),
    )


def _new(entries: Entries) -> list[pool.Entry]:
    """Those that the pool did not have."""
    return [entry for entry, known in entries if not known]


def _named(entries: Entries) -> tuple[str, ...]:
    return tuple(entry.path for entry, _ in entries)


def _cost(new: list[pool.Entry], first: set[str]) -> dict[str, Any]:
    """What a RefinedRef says of the entries that were computed; `first` are those of the first chains."""
    return {
        "cached": not new,
        "tokens": sum(entry.meta["tokens"] for entry in new),
        "certificate": sum(entry.meta["tokens"] for entry in new if entry.path not in first),
        "seconds": sum(entry.meta["seconds"] for entry in new),
    }


def _above(kernel: Kernel, doubled: Doubled | None, calibration: Calibration | None) -> Begun:
    """Where the second chains begin, as _begin."""
    if not doubled:
        return [], []
    return _begin(replace(kernel, recipe=doubled[0], name=AT_TWICE), doubled[1], calibration)


def _second(doubled: Doubled | None, steered: Entries, above: Ranges, back: Ranges) -> dict[str, Any]:
    """What a RefinedRef says of the second chains."""
    if not doubled:
        return {}
    _, draws = doubled
    return {
        "certified": draws.samples.shard.prompts,
        "doubled": (*draws.paths, *_named(steered)),
        "above": above,
        "back": back,
    }


def _moves(recipe: Recipe) -> int:
    assert isinstance(recipe.config, MCAligned)
    return recipe.config.refine


def _paths(part: Advanced, blocks: slice) -> Ranges:
    return tuple(tuple(entry.path for entry in entries[blocks]) for entries in part.entries)


def _certified(recipe: Recipe, samples: SamplesRef) -> list[str]:
    """The prompts of a shard, by lot, that have second chains."""
    names = prompts_of(samples.shard)["prompt_id"].to_list()
    return [n for n in names if keys.seed_for(recipe.config.seed, n, "certified") < recipe.certified * LOTS]


def _doubled(kernel: Kernel, draws: DrawsRef, certified: list[str]) -> Doubled | None:
    """The recipe at 2 λ, and its draws of the prompts that have second chains; None where none has."""
    recipe = kernel.recipe
    if not certified:
        return None
    twice = _at_twice(recipe)
    return twice, resample(twice, samples_of_some(recipe, draws.samples, certified), draws.rewards)


def _at_twice(recipe: Recipe) -> Recipe:
    """The recipe at 2 λ."""
    config = recipe.config
    assert isinstance(config, MCAligned)
    return replace(recipe, config=config.model_copy(update={"lam": tuple(2 * lam for lam in config.lam)}))


def _begin(kernel: Kernel, draws: DrawsRef, calibration: Calibration | None) -> Begun:
    """Where the chains of some draws begin: at these, or at steered ones of their prompts, whose entries
    follow."""
    if not calibration:
        return _stands(kernel, draws), []
    made = steered_draws(kernel, calibration, prompts_of(draws.samples.shard)["prompt_id"].to_list())
    return [stand_of(kernel, entry) for entry, _ in made], made


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
    kept = read(path, "draws").select("prompt_id", "draw_index", "sample_index")
    return states_at(kernel, draws, kept, number)
