"""States of chains, and one move of all of them: suffix Metropolis–Hastings on whole completions.

S chains, V values. A move of a draw has a seed of its own, whatever else moves beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from exptilt.conversation import prompt_of
from exptilt.engines import registry
from exptilt.engines.base import Sample
from exptilt.errors import ConfigError
from exptilt.models.devices import on_one_of
from exptilt.rng import uniform
from exptilt.run import current
from exptilt.stages import failures
from exptilt.stages.failures import PromptsFailed
from exptilt.stages.recipe import Recipe
from exptilt.stages.text_rewards import rewards_of
from exptilt.storage import keys, schemas
from exptilt.tilting import moves
from exptilt.tilting.weights import Floats

CUT, ACCEPT = -1, -2  # where a move's seed gives these two numbers; tokens are drawn from 0 on
COLUMNS: Final = ("completion", "n_tokens", "finish_reason", "nll", "tokens")  # of a Sample
Proposal = tuple[Sample, Floats]  # a completion, and its rewards [V]
Rows = dict[str, dict[str, Any]]  # of the table of prompts, by prompt_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What moves the states of some prompts: the recipe, whose λ it is, the prompts, and the moves' name."""

    recipe: Recipe
    prompts: Rows
    name: str


@dataclass(slots=True, kw_only=True)
class States:
    """States of S chains, which may be at several λ.

    Attributes:
        called: what the moves of each are called.
        lam: λ of each, [S, V].
        names: prompt_id, draw_index and sample_index of each, the last of the sample that it began at.
        samples: the completions that they are.
        rewards: theirs, [S, V].
        log_weight: Σ λ r, [S].
        accepted: moves that were accepted so far, [S].
        trace: Σ λ r after each move [S] of the range that goes on.
        tokens: that were drawn in this range.
    """

    called: list[str]
    lam: Floats
    names: list[tuple[str, int, int]]
    samples: list[Sample]
    rewards: Floats
    log_weight: Floats
    accepted: moves.Ints
    trace: list[Floats]
    tokens: int = 0


def states_of(kernels: Sequence[Kernel], tables: Sequence[pl.DataFrame]) -> States:
    """The states of tables, each with its kernel, as a range of moves begins at them."""
    table, heights = pl.concat(tables), [each.height for each in tables]
    lam = np.repeat([kernel.recipe.lam_vector for kernel in kernels], heights, axis=0)
    rewards = np.array(table["rewards"].to_list(), dtype=np.float64).reshape(lam.shape)
    rows = table.select(COLUMNS).iter_rows(named=True)
    return States(
        called=[kernel.name for kernel, height in zip(kernels, heights, strict=True) for _ in range(height)],
        lam=lam,
        names=table.select("prompt_id", "draw_index", "sample_index").rows(),
        samples=[Sample(**row, logprob=None) for row in rows],
        rewards=rewards,
        log_weight=(rewards * lam).sum(axis=1),
        accepted=table["accepted"].to_numpy().astype(np.int64),
        trace=[],
    )


def table_of(states: States) -> pl.DataFrame:
    """The table of states at the end of a range of moves."""
    names = pl.DataFrame(states.names, schema=list(schemas.CHAINS)[:3], orient="row")
    types = {name: schemas.CHAINS[name] for name in COLUMNS}
    texts = pl.DataFrame(
        [[getattr(sample, name) for name in COLUMNS] for sample in states.samples], types, orient="row"
    )
    more = {
        "rewards": states.rewards.tolist(),
        "log_weight": states.log_weight,
        "accepted": states.accepted,
        "trace": np.stack(states.trace, axis=-1).tolist(),
    }
    return pl.concat([names, texts, pl.DataFrame(more)], how="horizontal").cast(schemas.CHAINS)


def move(kernel: Kernel, states: States, number: int) -> None:
    """Move all states once, whose prompts `kernel` has; it is their move `number`."""
    seed = kernel.recipe.config.seed
    named = zip(states.called, states.names, strict=True)
    seeds = np.array([keys.seed_for(seed, name[0], f"{word}/{name[1]}/{number}") for word, name in named])
    lengths = _lengths(states.samples)
    kept = moves.cuts(uniform(seeds, CUT, 0), lengths)
    begun = [_tokens(sample)[:count] for sample, count in zip(states.samples, kept.tolist(), strict=True)]
    proposals, rewards = proposed(kernel, [prompt_id for prompt_id, _, _ in states.names], begun, seeds)
    log_weight = (rewards * states.lam).sum(axis=1)
    chance = moves.log_acceptance(states.log_weight, log_weight, lengths, _lengths(proposals))
    taken = moves.accepted(uniform(seeds, ACCEPT, 0), chance)
    for place in np.flatnonzero(taken).tolist():
        states.samples[place] = proposals[place]
    states.rewards = np.where(taken[:, None], rewards, states.rewards)
    states.log_weight = np.where(taken, log_weight, states.log_weight)
    states.accepted = states.accepted + taken
    states.trace.append(states.log_weight)
    states.tokens += int((_lengths(proposals) - kept).sum())


def drawn_again(kernel: Kernel, samples: Sequence[Sample], prompt_ids: list[str], seeds: moves.Ints) -> Any:
    """Samples whose tokens the pool does not hold, drawn again from their seeds: their texts tokenized would
    be other tokens. ConfigError where they come out as other texts."""
    rows = [kernel.prompts[name] for name in prompt_ids]
    found = _extend(kernel, rows, [[] for _ in rows], seeds)
    for row, before, after in zip(rows, samples, found, strict=True):
        if before.completion != after.completion:
            raise ConfigError(
                f"--refine: the pool holds no tokens of the samples of prompt {row['prompt_index']} "
                f"({row['prompt'][:60]!r}), and here they are drawn differently: use another --save-directory"
            )
    return [a._replace(tokens=b.tokens) for a, b in zip(samples, found, strict=True)]


def _tokens(sample: Sample) -> list[int]:
    """All that was drawn of a completion; every state has it (see drawn_again)."""
    assert sample.tokens is not None
    return sample.tokens


def _lengths(samples: Sequence[Sample]) -> moves.Ints:
    """|y| [S]: the tokens drawn, an end token and those of a stop text among them."""
    return np.array([len(_tokens(sample)) for sample in samples], dtype=np.int64)


def proposed(
    kernel: Kernel, prompt_ids: Sequence[str], begun: Sequence[list[int]], seeds: moves.Ints
) -> tuple[list[Sample], Floats]:
    """Completions [S] of what is begun, and their rewards [S, V]. PromptsFailed names the prompts at which
    the engine or a value fails."""
    rows = [kernel.prompts[prompt_id] for prompt_id in prompt_ids]

    def work(places: Sequence[int]) -> list[Proposal]:
        mine = [rows[place] for place in places]
        drawn = _extend(kernel, mine, [begun[place] for place in places], seeds[list(places)])
        return list(zip(drawn, rewards_of(kernel.recipe, mine, drawn), strict=True))

    return _each(work, rows)


def prefixes(
    kernel: Kernel, prompt_ids: Sequence[str], begun: Sequence[list[int]]
) -> tuple[list[Sample], Floats]:
    """The first tokens of completions as if they were whole [S], and their rewards [S, V]. Raises as
    `proposed`."""
    rows = [kernel.prompts[prompt_id] for prompt_id in prompt_ids]

    def work(places: Sequence[int]) -> list[Proposal]:
        mine, tokens = [rows[place] for place in places], [begun[place] for place in places]
        texts = _shown(kernel, mine, tokens)
        cut = [_whole(text, ids) for text, ids in zip(texts, tokens, strict=True)]
        return list(zip(cut, rewards_of(kernel.recipe, mine, cut), strict=True))

    return _each(work, rows)


def _whole(text: str, tokens: list[int]) -> Sample:
    return Sample(text, len(tokens), "length", logprob=None, nll=None, tokens=tokens)


def _shown(kernel: Kernel, rows: Sequence[dict[str, Any]], begun: Sequence[list[int]]) -> list[str]:
    recipe, p0 = kernel.recipe, kernel.recipe.p0
    assert p0
    prompts = [prompt_of(row) for row in rows]
    return on_one_of(
        recipe.devices, "draw", 1, lambda device: registry.load_continuing(p0, device).shown(prompts, begun)
    )


def _each(
    work: Callable[[Sequence[int]], list[Proposal]], rows: Sequence[dict[str, Any]]
) -> tuple[list[Sample], Floats]:
    made, failed = failures.narrowed(range(len(rows)), work)
    if failed:
        named = {rows[place]["prompt_id"]: (rows[place], error) for place, error in failed}
        missing = [failures.missing_prompt(row, "a move", error) for row, error in named.values()]
        raise PromptsFailed(missing) from failed[0][1]
    proposals = [proposal for part in made for proposal in part]
    return [sample for sample, _ in proposals], np.array([numbers for _, numbers in proposals])


def _extend(
    kernel: Kernel, rows: Sequence[dict[str, Any]], begun: Sequence[list[int]], seeds: moves.Ints
) -> list[Sample]:
    recipe, prompts = kernel.recipe, [prompt_of(row) for row in rows]
    p0 = recipe.p0
    assert p0

    def work(device: str) -> list[Sample]:
        meter = current().meter
        since = meter.drawn_on(device)
        found = registry.load_continuing(p0, device).extend(prompts, begun, seeds, recipe.batch_size)
        meter.extended(device, since, int(_lengths(found).sum()) - sum(map(len, begun)))
        return found

    return on_one_of(recipe.devices, "draw", 1, work)
