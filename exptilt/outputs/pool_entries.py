"""The pool's entries that an output was made of, as its manifest names them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from exptilt.stages.references import (
    Drawn,
    DrawsRef,
    ExploredRef,
    RewardsRef,
    SamplesRef,
    ScoredRef,
    ShardRef,
    flat,
)
from exptilt.storage import pool

ENTRIES: Final = "pool"  # their field in a manifest
Made = Drawn | ScoredRef | ExploredRef


def named(shards: Sequence[ShardRef], made: Iterable[Made]) -> dict[str, Any]:
    """What a manifest says of the entries that an output is made of, and that the same run reads again.

    Args:
        shards: the prompts of the whole run.
        made: what was made of them.

    Returns:
        The entries' names in the pool by their stage, under the manifest's field.
    """
    return names(chain((shard.prompts for shard in shards), *map(_paths, made)))


def names(paths: Iterable[str]) -> dict[str, Any]:
    """The same of the entries at `paths`."""
    found = defaultdict[str, list[str]](list)
    for name in sorted({pool.name_of(path) for path in paths if path}):
        stage, _, rest = name.partition("/")
        found[stage].append(rest)
    return {ENTRIES: dict(found)}


def _paths(made: Made) -> Iterator[str]:
    if isinstance(made, ExploredRef):
        yield from made.paths
        made = made.scored
    yield from _of_samples(made.samples)
    if not isinstance(made, SamplesRef):
        yield from chain.from_iterable(map(of_rewards, made.rewards))
    if isinstance(made, DrawsRef):
        yield from made.paths
        yield from made.refined.entries if made.refined else ()


def _of_samples(samples: SamplesRef) -> Iterator[str]:
    yield from (samples.shard.prompts, samples.counts, *samples.sources, *flat(samples.parts))


def of_rewards(rewards: RewardsRef) -> Iterator[str]:
    """The entries of a value's rewards, those of an ensemble's members among them."""
    yield from (*flat(rewards.parts), *rewards.members)
