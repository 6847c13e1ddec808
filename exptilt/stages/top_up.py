"""Top up: more samples where a prompt's ESS is too small, in rounds that double, each kept in the pool."""

import dataclasses
from collections.abc import Sequence

import polars as pl

from exptilt.config.settings import MCAligned
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.generate import generate
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import RewardsRef, SamplesRef, ScoredRef, merged
from exptilt.stages.score import score
from exptilt.stages.shards import samples_without, some
from exptilt.stages.tables import by_count, matrix_of, prompts_of
from exptilt.storage import pool, schemas
from exptilt.tilting import diagnostics, weights


def top_up(recipe: Recipe, samples: SamplesRef, scored: Sequence[RewardsRef]) -> ScoredRef:
    """The shard with n samples per prompt, doubled while the ESS is under min_ess, up to max_nsamples.

    A prompt's next samples have the seeds that a larger n would give them. To stop at a good ESS is to
    stop at samples that show no large reward yet, which biases levels towards p0
    (docs/explanation/tilting.md).
    """
    config = recipe.config
    assert isinstance(config, MCAligned)
    have = ScoredRef(samples=samples, rewards=tuple(scored))
    counts = dict.fromkeys(prompts_of(samples.shard)["prompt_id"].to_list(), config.nsamples)
    n = config.nsamples
    while n < config.max_nsamples and (needy := _needy(recipe, have, config.min_ess, n)):
        last = min(2 * n, config.max_nsamples)
        have = _more(recipe, have, needy, n, last)
        counts |= dict.fromkeys(needy, last)
        have = dataclasses.replace(
            have, samples=dataclasses.replace(have.samples, counts=_put(recipe, counts))
        )
        n = last
    return have


def _needy(recipe: Recipe, have: ScoredRef, least: float, n: int) -> list[str]:
    """Prompts that have n samples and an ESS under `least`."""
    prompt_ids, counts, rewards = matrix_of(have.samples, have.rewards, n)
    found = []
    for places, block in by_count(counts, rewards):
        if block.shape[1] == n:
            ess = diagnostics.diagnose(weights.log_weights(block, recipe.lam_vector), tail=False).ess
            found += [prompt_ids[i] for i, number in zip(places, ess, strict=True) if number < least]
    return found


def _more(recipe: Recipe, have: ScoredRef, needy: list[str], first: int, last: int) -> ScoredRef:
    """Draw and score samples first..last-1 of the prompts `needy`; those that fail now are left out whole."""
    try:
        drawn = generate(recipe, some(recipe, have.samples.shard, needy), first, last)
    except AllMissing as error:
        return _without(recipe, have, error.missing)
    scored = [score(recipe.workspace, drawn, spec) for spec in recipe.rewards]
    have = _without(recipe, have, drawn.missing)
    unscored = tuple({m.prompt_index: m for ref in scored for m in ref.missing}.values())
    if unscored:
        have = _without(recipe, have, unscored)
        names = set(prompts_of(have.samples.shard)["prompt_id"])
        rest = [name for name in needy if name in names]
        return _more(recipe, have, rest, first, last) if rest else have
    samples = dataclasses.replace(
        have.samples,
        parts=merged(have.samples.parts, drawn.parts),
        cached=have.samples.cached and drawn.cached,
        drawn=have.samples.drawn + drawn.drawn,
        tokens=have.samples.tokens + drawn.tokens,
        seconds=have.samples.seconds + drawn.seconds,
    )
    rewards = tuple(_joined(a, b) for a, b in zip(have.rewards, scored, strict=True))
    return ScoredRef(samples=samples, rewards=rewards)


def _without(recipe: Recipe, have: ScoredRef, missing: Sequence[MissingPrompt]) -> ScoredRef:
    """The shard without the prompts `missing`."""
    if not missing:
        return have
    return dataclasses.replace(have, samples=samples_without(recipe, have.samples, missing))


def _joined(first: RewardsRef, more: RewardsRef) -> RewardsRef:
    parts, seconds = merged(first.parts, more.parts), first.seconds + more.seconds
    cached, members = first.cached and more.cached, (*first.members, *more.members)
    return dataclasses.replace(first, parts=parts, cached=cached, seconds=seconds, members=members)


def _put(recipe: Recipe, counts: dict[str, int]) -> str:
    """The pool entry that says how many samples each prompt has."""
    table = pl.DataFrame({"prompt_id": list(counts), "n": list(counts.values())}).cast(schemas.COUNTS)
    return pool.keep(recipe.config.save_directory, "counts", "counts", table, {})
