"""Generate: completions of a shard's prompts, block by block, only those that the pool does not hold yet."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from exptilt.errors import RefusedError, StorageError
from exptilt.run import current
from exptilt.stages import deaths, draw
from exptilt.stages.blocks import Block, blocks_of
from exptilt.stages.draw import Lacking
from exptilt.stages.failures import MissingPrompt, PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.references import Parts, SamplesRef, ShardRef
from exptilt.stages.shards import without
from exptilt.stages.tables import even_order, in_order, prompts_of, read
from exptilt.storage import filesystem, pool

SEQUENCES: Final = 4_096  # drawn together, or a block; what a crash can lose of a task
MOST_TOGETHER: Final = 32  # blocks, whose leases are all held meanwhile


@dataclass(slots=True)
class _Spent:
    """What was drawn so far, and the prompts that failed."""

    drawn: int = 0
    tokens: int = 0
    seconds: float = 0.0
    missing: tuple[MissingPrompt, ...] = ()


def generate(recipe: Recipe, shard: ShardRef, first: int = 0, last: int | None = None) -> SamplesRef:
    """The samples of a shard's prompts: what the pool has, and the rest drawn now.

    Args:
        recipe: what is drawn, and where.
        shard: the prompts.
        first: the first sample of every prompt.
        last: behind the last one; the run's n if None.

    Returns:
        The entries of the samples; prompts that are missing are noted, and not in its shard.

    Raises:
        PromptsFailed: the engine fails at some prompts, and the run does not allow missing ones.
        AllMissing: it fails at all.
    """
    try:
        return _generate(recipe, shard, first, last)
    except PromptsFailed as error:
        if not recipe.workspace.allow_missing:
            raise
        kept = without(recipe, shard, error.missing)
        return replace(
            _generate(recipe, kept, first, last),
            missing=error.missing,
            drawn=error.drawn,
            tokens=error.tokens,
            seconds=error.seconds,
            cached=error.tokens == 0,
        )


def _generate(recipe: Recipe, shard: ShardRef, first: int, last: int | None) -> SamplesRef:
    n, parts, lacking = last or recipe.config.nsamples, Parts(), list[Lacking]()
    for block in blocks_of(prompts_of(shard)):
        parts[block.number], more = _look_up(recipe, block, first, n)
        lacking += more
        lacked = sum((n - each.have) * each.block.prompts.height for each in more)
        current().meter.reused((n - first) * block.prompts.height - lacked)
    spent = _Spent()
    for group in _rounds(lacking, n):
        _draw_round(recipe, group, n, parts, spent)
    if spent.missing:
        raise PromptsFailed(spent.missing, spent.tokens, spent.seconds, spent.drawn)
    cached = spent.tokens == 0
    if not cached:
        deaths.note_computed(recipe.workspace)
    return SamplesRef(
        shard=shard,
        parts=parts,
        cached=cached,
        drawn=spent.drawn,
        tokens=spent.tokens,
        seconds=spent.seconds,
    )


def _look_up(recipe: Recipe, block: Block, first: int, n: int) -> tuple[tuple[str, ...], list[Lacking]]:
    """The entries of a block's samples that the pool has, and what is still to be drawn.

    Prompts at which a draw failed before have entries of their own, and so have the others of the block.
    """
    home = draw.folder(recipe, block)
    found, have = _parts(home, first, n)
    if have >= n:
        return tuple(found), []
    lacking = []
    for part, alone in _apart(block, draw.noted(home)):
        more, reached = _parts(draw.folder(recipe, part), have, n) if part is not block else ([], have)
        found += more
        if reached < n:
            lacking.append(Lacking(block=part, home=home, have=reached, alone=alone))
    return tuple(found), lacking


def _apart(block: Block, failed: set[str]) -> Iterator[tuple[Block, bool]]:
    """The block without the prompts `failed`, and each of these alone."""
    rest = block.only(set(block.prompt_ids) - failed) if failed else block
    if rest.prompt_ids:
        yield rest, False
    yield from ((block.only({name}), True) for name in block.prompt_ids if name in failed)


def _rounds(lacking: Sequence[Lacking], n: int) -> Iterator[Sequence[Lacking]]:
    """Blocks that are drawn together: with equally many samples to draw, enough of them to fill a batch."""
    yield from ([each] for each in lacking if each.alone)
    others = [each for each in lacking if not each.alone]
    for have in sorted({each.have for each in others}):
        alike = [each for each in others if each.have == have]
        largest = max(each.block.prompts.height for each in alike)
        together = min(math.ceil(SEQUENCES / (largest * (n - have))), MOST_TOGETHER)
        yield from (alike[place : place + together] for place in range(0, len(alike), together))


def _draw_round(recipe: Recipe, group: Sequence[Lacking], n: int, parts: Parts, spent: _Spent) -> None:
    """Draw what the pool lacks of a round's blocks; adds their entries to `parts`, the cost to `spent`."""
    try:
        made = draw.together(recipe, group, n)
    except PromptsFailed as error:
        spent.missing += error.missing
        _spend(spent, error.drawn, error.tokens, error.seconds)
        return
    for each, (entry, cached) in zip(group, made, strict=True):
        parts[each.block.number] += (entry.path,)
        if not cached:
            _spend(spent, entry.files["samples"]["rows"], entry.meta["tokens"], entry.meta["seconds"])


def _spend(spent: _Spent, drawn: int, tokens: int, seconds: float) -> None:
    spent.drawn += drawn
    spent.tokens += tokens
    spent.seconds += seconds


def drawn_parts(recipe: Recipe, shards: Sequence[ShardRef]) -> list[str] | None:
    """The entries of the n samples of every prompt, where the pool says that it holds them all, so that p0
    need not be at hand; else None."""
    n, found = recipe.config.nsamples, list[str]()
    for block in (block for shard in shards for block in blocks_of(prompts_of(shard))):
        parts, have = _parts(draw.folder(recipe, block), 0, n, pool.described)
        if have < n:
            return None
        found += parts
    return found


def drawn_first(recipe: Recipe, shard: ShardRef, n: int) -> pl.DataFrame:
    """The first n samples of the prompts of a shard's first block; empty where an entry is damaged."""
    block = blocks_of(prompts_of(shard))[0]
    parts, have = _parts(draw.folder(recipe, block), 0, n)
    if have < n:
        return block.prompts.clear()
    samples = in_order([read(part, "samples") for part in parts], even_order(block.prompts, n))
    return samples.join(block.prompts, on="prompt_id", maintain_order="left")


def _parts(
    folder: str, have: int, n: int, find: Callable[[str], pool.Entry | None] = pool.find
) -> tuple[list[str], int]:
    """The complete entries that cover samples have, have + 1, … without a gap, and how far they reach."""
    found = [re.fullmatch(r"(\d+)-(\d+)", name) for name in filesystem.names(folder)]
    ranges = sorted((int(m[1]), -int(m[2])) for m in found if m)
    parts = []
    for first, last in ranges:
        path = filesystem.join(folder, f"{first}-{-last}")
        if first == have < n and (entry := find(path)):
            _check_numbers(entry)
            parts.append(path)
            have = -last
    return parts, have


def _check_numbers(entry: pool.Entry) -> None:
    """Raise RefusedError for samples with NaN, which were written before NaN was an error."""
    if "cut" in entry.meta:
        return
    try:
        entry.table("samples")
    except StorageError as error:
        raise RefusedError(
            f"{entry.path} was drawn by an older version and can't be used ({error}): remove it and run again"
        ) from error
