"""What steps hand to one another: small references to entries of the pool, never tables."""

from dataclasses import dataclass

from exptilt.stages.failures import MissingPrompt

Parts = dict[int, tuple[str, ...]]  # pool entries of each block, by its number (see stages.blocks)


def flat(parts: Parts) -> list[str]:
    """The entries of all blocks, in order."""
    return [path for number in sorted(parts) for path in parts[number]]


def merged(first: Parts, more: Parts) -> Parts:
    """The entries of both, block by block."""
    return {number: (*parts, *more.get(number, ())) for number, parts in first.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRef:
    """Some of a run's prompts, in whole blocks: shard `index` of `of`, `prompts` its pool entry's path."""

    index: int
    of: int
    prompts: str
    n_prompts: int

    @property
    def name(self) -> str:
        """How people count it: 003/012."""
        return f"{self.index + 1:03d}/{self.of:03d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesRef:
    """A shard's samples: each block's pool entries, which together hold sample indices 0 to n-1 or more.

    `drawn`, `tokens` and `seconds` are the samples that this run drew, their tokens and the time; 0 where all
    was there. `counts` is the entry
    that says how many samples each prompt has, where prompts differ; `missing` are prompts that are left
    out, which the shard no longer has; `sources` are entries from which parts were cut since a value failed
    at some of their prompts.
    """

    shard: ShardRef
    parts: Parts
    cached: bool
    tokens: int
    seconds: float
    drawn: int = 0
    counts: str = ""
    missing: tuple[MissingPrompt, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def samples(self) -> "SamplesRef":
        """Itself, as a DrawsRef has its samples."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardsRef:
    """One value's rewards for a shard's samples, one pool entry per entry of samples, or per block where
    it is of a group; none where it has none for the prompts `missing`, which are to be left out. `members`
    are the entries of an ensemble's members' rewards."""

    value: str
    parts: Parts
    cached: bool
    seconds: float
    missing: tuple[MissingPrompt, ...] = ()
    members: tuple[str, ...] = ()


Ranges = tuple[tuple[str, ...], ...]  # entries of chains [ranges of moves][blocks]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedRef:
    """A shard's chains of moves.

    Attributes:
        paths: from the draws on, or from the steered ones.
        beginnings: the entries that steered draws are calibrated by, where the run steers.
        steered: those of these draws.
        populations: those of other populations of the prompts that have second chains.
        certified: the entry of the prompts that have second chains, "" where none has.
        doubled: the entries of these prompts' draws at 2 λ.
        above: from these on, at 2 λ.
        back: from there on, at λ.
        cached: whether the pool had all of them.
        tokens: that this run drew for them, and the `seconds` that they took.
        certificate: those of `tokens` that are of second chains and other populations.
    """

    paths: Ranges
    cached: bool
    tokens: int
    certificate: int
    seconds: float
    beginnings: tuple[str, ...] = ()
    steered: tuple[str, ...] = ()
    populations: tuple[str, ...] = ()
    certified: str = ""
    doubled: tuple[str, ...] = ()
    above: Ranges = ()
    back: Ranges = ()

    @property
    def entries(self) -> list[str]:
        """All entries of the chains, and of what the second ones are of."""
        chains = [path for part in (self.paths, self.above, self.back) for row in part for path in row]
        others = [*self.populations, *self.doubled, *([self.certified] if self.certified else [])]
        return [*self.beginnings, *self.steered, *chains, *others]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawsRef:
    """A shard's draws and diagnostics, an entry for each block, what they were made of, and the chains that
    go on from them, if the run refines."""

    samples: SamplesRef
    rewards: tuple[RewardsRef, ...]
    paths: tuple[str, ...]
    cached: bool
    refined: RefinedRef | None = None


Drawn = SamplesRef | DrawsRef  # a shard of which rows can be written


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRef:
    """A shard's samples with all its values' rewards."""

    samples: SamplesRef
    rewards: tuple[RewardsRef, ...]

    @property
    def name(self) -> str:
        """That of its shard."""
        return self.samples.shard.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploredRef:
    """What each λ of a sweep brings to a shard, an entry for each block."""

    scored: ScoredRef
    paths: tuple[str, ...]
    cached: bool
