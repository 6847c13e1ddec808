"""What is left of a run, and how long it takes: by tokens and rewards, not by shards, which differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from exptilt.reports.shard_figures import ShardFigures
from exptilt.reports.standing import Process, Standing

SLACK: Final = 1.1  # shards differ in how long their completions are


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is still to be computed.

    Attributes:
        tokens: to be drawn.
        rewards: to be computed.
        is_bound: whether `tokens` are those at most.
        is_known: whether the plan holds; not where more was drawn of unfinished shards than it foresaw.
    """

    tokens: float
    rewards: float
    is_bound: bool = False
    is_known: bool = True


def left(standing: Standing) -> Left:
    """What the shards that have not ended lack, as those that have ended tell."""
    living, prompts = list(standing.living()), standing.prompts_left
    each, is_bound = _tokens_each(standing)
    tokens, drawn = prompts * each, _sum(living, "unfinished_tokens")
    return Left(
        tokens=max(tokens - drawn, 0.0),
        rewards=max(prompts * _rewards_each(standing) - _sum(living, "unfinished_rewards"), 0.0),
        is_bound=is_bound,
        is_known=drawn <= SLACK * tokens,
    )


def _tokens_each(standing: Standing) -> tuple[float, bool]:
    """The tokens that are to be drawn for a prompt, and whether these are the most that it can take.

    The shards of which nothing had to be drawn say nothing of it once any process draws: the pool has the
    samples of some prompts, and lacks those of others.
    """
    facts, processes = standing.facts, standing.processes.values()
    found = _each(standing, "drawn_tokens")
    if found is not None:
        return found, False
    if not facts.draws or not _sum(standing.living(), "tokens"):
        return 0.0, False
    each = facts.nsamples + facts.moved - standing.reused_at_work / max(standing.prompts_left, 1)
    if samples := _sum(processes, "samples"):
        return each * _sum(processes, "drawn_tokens") / samples, False
    return float(each * facts.max_new_tokens), True


def _rewards_each(standing: Standing) -> float:
    """The rewards that are to be computed for a prompt."""
    facts, found = standing.facts, _each(standing, "rewards")
    if found is not None:
        return found
    if not _sum(standing.living(), "rewards"):
        return 0.0
    return facts.rewards * facts.samples / max(sum(facts.prompts), 1)


def _each(standing: Standing, name: str) -> float | None:
    """One of the counts per prompt, of the shards that it was not 0 of; None without any."""
    shards = [shard for shard in standing.shards.values() if getattr(shard, name)]
    prompts = _sum(shards, "prompts") + _sum(shards, "n_missing")
    return _sum(shards, name) / prompts if prompts else None


def _sum(things: Iterable[Process] | Iterable[ShardFigures], name: str) -> float:
    return float(sum(getattr(each, name) for each in things))


def seconds_left(standing: Standing) -> float | None:
    """How long the living processes take for what is left; None where nothing tells.

    A token and a reward cost what they took so far. A process does, in a second, as many seconds of such work
    as it did since it began: more than one where it draws and scores at once, or on several devices.
    """
    todo, processes = left(standing), [p for p in standing.processes.values() if p.seconds]
    if not todo.is_known:
        return None
    per_token, per_reward = _costs(processes)
    alive = [p for p in standing.living() if p.seconds]
    speed = sum((p.tokens * per_token + p.rewards * per_reward) / p.seconds for p in alive)
    return (todo.tokens * per_token + todo.rewards * per_reward) / speed if speed else None


def _costs(processes: Sequence[Process]) -> tuple[float, float]:
    """The seconds of a token and of a reward; before a draw is done, and on a cluster, which does not say, as
    if all time went into the tokens, or into the rewards where none was drawn."""
    drawn, tokens, rewards = (_sum(processes, name) for name in ("drawn_tokens", "tokens", "rewards"))
    seconds, scoring = _sum(processes, "seconds"), _sum(processes, "score_seconds")
    per_token = _sum(processes, "draw_seconds") / drawn if drawn else seconds / (tokens or 1)
    per_reward = scoring if scoring or tokens else seconds
    return per_token, per_reward / (rewards or 1)


def share_done(standing: Standing) -> float:
    """The share of the run that is done, by prompts, those of shards at work by their tokens."""
    prompts = sum(standing.facts.prompts)
    tokens, _ = _tokens_each(standing)
    going = _sum(standing.living(), "unfinished_tokens") / tokens if tokens else 0.0
    return (standing.prompts_done + min(going, standing.prompts_left)) / prompts if prompts else 1.0
