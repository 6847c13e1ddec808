"""How far a configuration is: what was planned, what its shards came to, and what its processes do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from exptilt.reports.shard_figures import Level, ShardFigures
from exptilt.tilting import verdict


class Facts(BaseModel):
    """What was planned.

    Attributes:
        title: the outputs' name.
        opening: the run in one line.
        output: the page or the file that it ends with, under the save directory.
        began: when its first process did, in seconds since 1970.
        prompts: of each shard.
        samples: of all shards, as planned.
        draws: whether it draws; its samples may come from a file.
        nsamples: per prompt.
        max_new_tokens: of a sample.
        moved: what moves and particles draw beside them, in samples per prompt.
        lam: by value; empty where it does not tilt.
        rewards: that are computed of each sample.
        skipped: prompts that were left out while planning, by why.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    opening: str
    output: str
    began: float
    prompts: tuple[int, ...]
    samples: int
    draws: bool
    nsamples: int = 1
    max_new_tokens: int = 0
    moved: float = 0.0
    lam: dict[str, float] = {}
    rewards: float = 0.0
    skipped: dict[str, int] = {}


class Process(BaseModel):
    """What a process does for a run.

    Attributes:
        host: its machine.
        holder: the process, as leases name it.
        has_ended: whether it does nothing more.
        at_work: the shards that it holds.
        speed: tokens per second on each device, of late.
        tokens: that it drew so far.
        samples: of its draws that are done.
        drawn_tokens: of these samples.
        draw_seconds: that these draws took.
        rewards: that it computed.
        score_seconds: that they took.
        seconds: since it began to compute.
        unfinished_tokens: those of `tokens` that are of shards which have not ended.
        unfinished_rewards: those of `rewards`, likewise.
        unfinished_samples: those of `samples`, likewise.
        unfinished_reused: samples of such shards that the pool had.
        beside: what it does beside the shards, in words; "" where it does nothing.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    holder: dict[str, Any] = {}
    has_ended: bool = False
    at_work: tuple[int, ...] = ()
    speed: dict[str, float] = {}
    tokens: int = 0
    samples: int = 0
    drawn_tokens: int = 0
    draw_seconds: float = 0.0
    rewards: int = 0
    score_seconds: float = 0.0
    seconds: float = 0.0
    unfinished_tokens: int = 0
    unfinished_rewards: int = 0
    unfinished_samples: int = 0
    unfinished_reused: int = 0
    beside: str = ""


@dataclass(slots=True, kw_only=True)
class Standing:
    """A configuration's figures; shards by their places, processes by their names, `alive` those that are."""

    facts: Facts
    shards: dict[int, ShardFigures] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)

    @property
    def done(self) -> int:
        """Shards that have ended well."""
        return sum(not shard.failed for shard in self.shards.values())

    @property
    def is_done(self) -> bool:
        """Whether every shard has."""
        return self.done == len(self.facts.prompts)

    @property
    def failed(self) -> dict[int, str]:
        """Why shards failed, by their places."""
        return {
            place: self.shards[place].failed for place in sorted(self.shards) if self.shards[place].failed
        }

    @property
    def at_work(self) -> dict[str, list[int]]:
        """The shards that are at work now, by the machines that hold them."""
        found: dict[str, list[int]] = {}
        for process in self.living():
            found.setdefault(process.host, []).extend(process.at_work)
        return {host: sorted(set(places)) for host, places in found.items() if places}

    def living(self) -> Iterator[Process]:
        """The processes that are alive."""
        return (self.processes[name] for name in sorted(self.alive & self.processes.keys()))

    def total(self, name: str) -> int:
        """The sum of one of the shards' counts."""
        return sum(getattr(shard, name) for shard in self.shards.values())

    @property
    def prompts_done(self) -> int:
        """Prompts of the shards that have ended well, those left out among them."""
        ended = (place for place, shard in self.shards.items() if not shard.failed)
        return sum(self.facts.prompts[place] for place in ended)

    @property
    def prompts_left(self) -> int:
        """Prompts of the others."""
        return sum(self.facts.prompts) - self.prompts_done

    @property
    def drawn_at_work(self) -> int:
        """Samples of the shards at work that are drawn already."""
        drawn = sum(process.unfinished_samples for process in self.living())
        return min(drawn, self.facts.nsamples * self.prompts_left)

    @property
    def reused_at_work(self) -> int:
        """Samples of these shards that the pool had; a second try finds there what the first one drew."""
        reused = sum(process.unfinished_reused for process in self.living())
        return min(reused, self.facts.nsamples * self.prompts_left - self.drawn_at_work)

    @property
    def samples(self) -> int:
        """Those planned; where prompts differ in how many they have, as many as the shards so far tell."""
        kept, planned = self.total("prompts"), sum(self.facts.prompts)
        each = self.total("samples") / kept if kept else self.facts.samples / max(planned, 1)
        return self.total("samples") + round(self.prompts_left * each)

    @property
    def levels(self) -> dict[str, Level]:
        """Every value over the prompts so far."""
        by_value: dict[str, list[Level]] = {}
        for place in sorted(self.shards):
            for value, level in self.shards[place].levels.items():
                by_value.setdefault(value, []).append(level)
        return {value: Level.over(levels) for value, levels in by_value.items()}

    @property
    def missing(self) -> list[str]:
        """Prompts that are left out, in words; the first ones of each shard."""
        return [prompt for place in sorted(self.shards) for prompt in self.shards[place].missing]

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The certificate over the prompts so far, its word and its sentence; None without a tilt."""
        prompts = self.total("prompts")
        if not self.facts.lam or not prompts:
            return None
        shares = self.total("low") / prompts, self.total("short") / prompts
        word = verdict.verdict(self.facts.nsamples, *shares)
        return word, verdict.sentence(word, self.facts.nsamples, *shares)

    @property
    def speed(self) -> dict[str, float]:
        """Tokens per second of late, by device; devices of several machines with the machine's name."""
        living = list(self.living())
        several = len({process.host for process in living}) > 1
        return summed(
            (f"{process.host} {device}" if several else device, speed)
            for process in living
            for device, speed in process.speed.items()
        )


def summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The sums of numbers by their names, in order of these."""
    found: dict[str, float] = {}
    for name, number in sorted(pairs):
        found[name] = found.get(name, 0.0) + number
    return found
