"""What moves brought to a run's draws, how far they came, and the verdict on it."""

from dataclasses import dataclass, field

from exptilt.reports.estimate import Estimate
from exptilt.tilting import convergence
from exptilt.tilting.convergence import Convergence
from exptilt.wording import counted

ROUND = frozenset(2**k for k in range(3, 63))  # moves after which the level is said


@dataclass(slots=True, kw_only=True)
class Point:
    """Σ λ r in nats, averaged over prompts, after some moves."""

    moves: int
    level: Estimate


@dataclass(slots=True, kw_only=True)
class Steering:
    """How samples were steered before the moves.

    Attributes:
        prompts: whose samples were steered.
        copies: particles that were replaced by copies of others, per prompt.
        explained: the share of what the rewards of a prompt's wholes differ by that those of their beginnings
            explain, by the tokens at which a block ends.
        log_z: log Ẑ of the populations, in nats.
        spread: the deviation of log Ẑ between four populations of a prompt, in nats; root mean square over
            the prompts that have second chains.
    """

    prompts: int
    copies: float
    explained: dict[int, float]
    log_z: Estimate
    spread: float

    @property
    def fact(self) -> str:
        """The line of a summary."""
        parts = [f"{share:.0%} by {counted(end, 'token')}" for end, share in self.explained.items()]
        shown = parts if len(parts) < 7 else [*parts[:3], "…", parts[-1]]
        told = f"; beginnings explain {', '.join(shown)} of the rewards" if parts else ""
        between = f", sd {self.spread:.2f} between populations of a prompt" if self.spread else ""
        return f"{self.copies:.1f} copies per prompt{told}; log Ẑ {self.log_z}{between}"


@dataclass(slots=True, kw_only=True)
class Refinement:
    """Moves of the draws of a run.

    Attributes:
        moves: of each draw.
        chains: the draws.
        certified: the prompts that have second chains.
        acceptance: the share of moves that were taken.
        tokens: that this run drew for moves, and the `seconds` they took.
        certificate: those of `tokens` that the verdict took: of second chains, and of other populations.
        course: of the first chains, from the draws on.
        above: of the second ones, from where they turn from 2 λ to λ.
        convergence: the verdict, and what it follows from.
        steering: of the samples before the moves, None for a run that does not steer.
    """

    moves: int
    chains: int
    certified: int
    acceptance: float
    tokens: int
    certificate: int
    seconds: float
    convergence: Convergence
    course: list[Point] = field(default_factory=list)
    above: list[Point] = field(default_factory=list)
    steering: Steering | None = None

    @property
    def is_bracketed(self) -> bool:
        """Whether the second chains came down to what the first ones came up to."""
        return self.convergence.verdict == convergence.BRACKETED

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        return convergence.sentence(self.convergence, self.moves)

    @property
    def warning(self) -> str | None:
        """The verdict and what to do about it, where it is not good."""
        return None if self.is_bracketed else f"{self.sentence}; use {self._advice}"

    @property
    def _advice(self) -> str:
        if self.convergence.reason == convergence.APART:
            return "a larger --nsamples, or a smaller --lam"
        if "error" in self.convergence.reason:
            return "more prompts, or a larger --ndraws"
        return f"--refine {2 * self.moves} (moves made are reused), or a smaller --lam"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The lines of a summary: what, and how much."""
        made = f"{counted(self.moves, 'move')} of {counted(self.chains, 'completion')}"
        rows = [("steered", self.steering.fact)] if self.steering else []
        rows.append(("moves", f"{made}, {self.acceptance:.1%} accepted; {self._cost}"))
        rows.append(("Σ λ r", _course(self.course)))
        if self.above:
            beside = f"; the second chains of {counted(self.certified, 'prompt')}, begun at 2 λ"
            rows.append(("from above", _course(self.above) + beside))
        return rows

    @property
    def _cost(self) -> str:
        if not self.tokens:
            return "all in the pool"
        speed = f" at {self.tokens / self.seconds:,.0f} tokens/s" if self.seconds else ""
        return f"{counted(self.tokens, 'token')}{speed}, {self.certificate / self.tokens:.0%} for the verdict"


def _course(points: list[Point]) -> str:
    """The level at the begin, after 8, 16, 32, … moves, and at the end."""
    shown = [point for point in points[:-1] if point.moves in ROUND]
    said = [f"{point.level} after {point.moves:,}" for point in (*shown, points[-1])]
    return ", ".join([f"{points[0].level} before", *said])
