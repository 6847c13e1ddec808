"""What a run did, as numbers, and its verdict, with one warning where λ is too large."""

from dataclasses import dataclass, field

from exptilt.reports.estimate import Estimate
from exptilt.reports.refinement import Refinement
from exptilt.stages.failures import MissingPrompt
from exptilt.tilting import verdict


@dataclass(slots=True, kw_only=True)
class ValueChange:
    """One value: over all samples, over the completions kept, what more samples would bring, and what the
    draws that were kept were moved to."""

    value: str
    lam: float
    before: Estimate
    after: Estimate
    limit: Estimate
    refined: Estimate | None = None


@dataclass(slots=True, kw_only=True)
class SpreadChange:
    """How far an ensemble's standardised members are apart: their sd, averaged over the samples of p0 and
    over the completions kept. It says where the tilt goes beyond what they agree on, and is in no verdict."""

    value: str
    members: int
    before: Estimate
    after: Estimate


@dataclass(slots=True, kw_only=True)
class Quality:
    """How good a tilt is: KL and log Z in nats per prompt, medians over prompts of the samples, the ESS and
    the largest weight; shares of prompts with an ESS under 2, with too few samples, and with a Pareto k-hat
    over 0.7, and the samples that nine tails in ten ask for (None where there are too few to say); the
    samples that nine prompts in ten need by KL; unique completions kept per prompt; what rejection
    accepts, 1/(n·max weight), its bound the largest weight."""

    n: float
    kl: Estimate
    log_z: Estimate
    ess: float
    max_weight: float
    low_share: float
    short_share: float
    khat_share: float | None
    n_by_tail: float | None
    n_needed: float
    unique: float
    acceptance: float


@dataclass(slots=True, kw_only=True)
class Summary:
    """A finished run. Seconds and tokens count what this run computed, not what it reused."""

    title: str
    prompts: int
    samples: int
    kept: int
    n: int
    pairs: int | None = None
    values: list[ValueChange] = field(default_factory=list)
    quality: Quality | None = None
    spreads: list[SpreadChange] = field(default_factory=list)
    refinement: Refinement | None = None
    tokens: int = 0
    generate_seconds: float = 0.0
    score_seconds: float = 0.0
    shards: int = 0
    reused: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0
    missing: list[MissingPrompt] = field(default_factory=list)
    rescored: int = 0
    cut: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    json: str = ""
    folder: str = ""
    pushed: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens drawn per second of generating, None where all was reused."""
        return self.tokens / self.generate_seconds if self.generate_seconds else None

    @property
    def verdict(self) -> str:
        """The certificate's word on the tilt, before any moves."""
        q = self.quality
        return verdict.verdict(q.n, q.low_share, q.short_share) if q else verdict.SOUND

    @property
    def sentence(self) -> str:
        """The verdict in one line, on the moves where there are any; empty for a run that does not tilt."""
        return self.refinement.sentence if self.refinement else self.tilt_sentence

    @property
    def word(self) -> str:
        """The first words of the sentence: the verdict."""
        return self.refinement.convergence.verdict if self.refinement else self.verdict

    @property
    def tilt_sentence(self) -> str:
        """The verdict on the tilt, before any moves."""
        q = self.quality
        if q is None:
            return ""
        return verdict.sentence(self.verdict, self.n, q.low_share, q.short_share)

    @property
    def warning(self) -> str | None:
        """The verdict and what to do about it, in one line, where it is not good."""
        if self.refinement:
            return self.refinement.warning
        q = self.quality
        advice = verdict.advice(self.verdict, max(q.n, self.n), q.n_needed) if q else None
        return f"{self.sentence}; {advice}" if advice else None
