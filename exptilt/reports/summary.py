"""What a run did, as numbers, as a table for people, and as one warning where λ is too large."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from exptilt.stages.failures import MissingPrompt
from exptilt.tilting import verdict
from exptilt.wording import counted


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error s/√P over P prompts, None for a single prompt."""

    mean: float
    se: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.se is None else f"{self.mean:.4f} ± {self.se:.4f}"


def estimate(total: float, squares: float, count: int) -> Estimate:
    """A mean and its standard error.

    Args:
        total: the numbers' sum.
        squares: the sum of their squares.
        count: how many they are.
    """
    mean = float(total / count)
    if count == 1:
        return Estimate(mean, None)
    variance = max(float(squares / count) - mean**2, 0.0) * count / (count - 1)
    return Estimate(mean, float(np.sqrt(variance / count)))


def estimate_of(per_prompt: np.ndarray) -> Estimate:
    """The mean of numbers [P] and its standard error."""
    mean, count = float(np.mean(per_prompt)), len(per_prompt)
    if count == 1:
        return Estimate(mean, None)
    deviations = per_prompt - mean
    return Estimate(mean, float(np.sqrt(deviations @ deviations / (count - 1) / count)))


@dataclass(slots=True, kw_only=True)
class ValueChange:
    """One value: over all samples, over the completions kept, and what more samples would bring."""

    value: str
    lam: float
    before: Estimate
    after: Estimate
    limit: Estimate


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

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens drawn per second of generating, None where all was reused."""
        return self.tokens / self.generate_seconds if self.generate_seconds else None

    @property
    def verdict(self) -> str:
        """The certificate's word on the tilt."""
        q = self.quality
        return verdict.verdict(q.n, q.low_share, q.short_share) if q else verdict.SOUND

    @property
    def sentence(self) -> str:
        """The verdict in one line; empty for a run that does not tilt."""
        q = self.quality
        if q is None:
            return ""
        return verdict.sentence(self.verdict, self.n, q.low_share, q.short_share)

    @property
    def warning(self) -> str | None:
        """The verdict and what to do about it, in one line, where it is not good."""
        q = self.quality
        advice = verdict.advice(self.verdict, max(q.n, self.n), q.n_needed) if q else None
        return f"{self.sentence}; {advice}" if advice else None


def facts(summary: Summary) -> list[tuple[str, str]]:
    """The summary's lines but for the values' table: what, and how much."""
    rows = [("prompts", f"{summary.prompts:,}"), ("samples", _sizes(summary))]
    rows.append(("kept", _kept(summary)))
    if summary.pairs is not None:
        rows.append(("pairs", _pairs(summary.pairs, summary.prompts)))
    if summary.quality:
        rows += _quality(summary.quality, summary.n)
    rows += [("spread", _spread(spread)) for spread in summary.spreads]
    rows += [("generated", _generated(summary)), ("reused", _reused(summary))]
    rows += [("left out", str(prompt)) for prompt in summary.missing]
    rows += [("left out", f"{counted(count, 'prompt')}: {why}") for why, count in summary.skipped.items()]
    if summary.truncated:
        rows.append(("too long", f"{counted(summary.truncated, 'prompt')} cut"))
    rows += [("too long", f"{counted(n, 'text')} cut for {value}") for value, n in summary.cut.items() if n]
    if summary.retries:
        rows.append(("storage", counted(summary.retries, "retry", "retries")))
    rows += [("records", summary.json), ("data set", summary.folder)]
    return [*rows, ("page", f"{summary.folder}/index.html")] if summary.quality else rows


def _kept(summary: Summary) -> str:
    if summary.quality is None or summary.kept <= summary.prompts:
        return f"{summary.kept:,}"
    return f"{summary.kept:,}; {summary.quality.unique:.1f} different ones per prompt"


def _pairs(pairs: int, prompts: int) -> str:
    left = prompts - pairs
    return (
        f"{pairs:,}; {counted(left, 'prompt')} without a margin that is large enough"
        if left
        else f"{pairs:,}"
    )


def _sizes(summary: Summary) -> str:
    drawn = f"{summary.samples:,}"
    topped = summary.samples - summary.prompts * summary.n
    return f"{drawn}, {topped:,} of them to raise the ESS" if topped > 0 else drawn


def _quality(q: Quality, n: int) -> list[tuple[str, str]]:
    rows = [
        ("ESS", f"median {q.ess:.1f} of {n}; under 2 at {q.low_share:.1%} of the prompts"),
        ("KL", f"{q.kl} nats per prompt; log Z {q.log_z}"),
        ("weights", f"largest {q.max_weight:.3f} (median); rejection would accept {q.acceptance:.1%}"),
    ]
    return rows if q.khat_share is None else [*rows, ("tails", _tails(q))]


def _tails(q: Quality) -> str:
    said = f"Pareto k-hat over 0.7 at {q.khat_share:.1%} of the prompts"
    if q.n_by_tail is None or q.n_by_tail > verdict.MOST_SAMPLES:
        return said
    return f"{said}; they ask for {counted(round(q.n_by_tail), 'sample')} at nine prompts in ten"


def _spread(change: SpreadChange) -> str:
    members = counted(change.members, "member")
    return f"{change.value}: sd across {members} {change.before} before the tilt, {change.after} after"


def _generated(summary: Summary) -> str:
    if not summary.tokens_per_second:
        return "nothing: every sample was in the pool"
    return f"{counted(summary.tokens, 'token')} at {summary.tokens_per_second:,.0f} tokens/s"


def _reused(summary: Summary) -> str:
    parts = [f"{what} {count}/{summary.shards}" for what, count in summary.reused.items()]
    return "shards of " + ", ".join(parts)


def change_row(change: ValueChange) -> list[str]:
    """One value's row: name, λ, before, after, difference, limit."""
    difference = f"{change.after.mean - change.before.mean:+.4f}"
    return [
        change.value,
        f"{change.lam:g}",
        str(change.before),
        str(change.after),
        difference,
        str(change.limit),
    ]


HEADINGS: Final = ["value", "λ", "before the tilt", "after the tilt", "difference", "as n grows"]


def markdown(summary: Summary) -> str:
    """The summary as Markdown, for the data set card and the UI."""
    verdict = summary.warning or summary.sentence
    lines = [f"**{verdict}**", ""] if verdict else []
    if summary.values:
        lines += [markdown_table(HEADINGS, [change_row(change) for change in summary.values])]
        lines += ["", "Means over prompts ± standard error; the last column by the jackknife.", ""]
    return "\n".join([*lines, *(f"- {name}: {said}" for name, said in facts(summary))])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(_md_row(cells) for cells in [headings, ["---"] * len(headings), *rows])


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
