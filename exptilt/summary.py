"""What a run did, as numbers, as a table for people, and as one warning where λ is too large."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

LOW_ESS: Final = 2.0
LOW_SHARE: Final = 0.1


@dataclass(slots=True, kw_only=True)
class ValueChange:
    """One value before and after the tilt: mean over prompts and its standard error."""

    value: str
    lam: float
    before: float
    before_se: float | None
    after: float
    after_se: float | None


@dataclass(slots=True, kw_only=True)
class Summary:
    """A finished run. Seconds and tokens count what this run computed, not what it reused."""

    title: str
    prompts: int
    samples: int
    kept: int
    n: int
    values: list[ValueChange] = field(default_factory=list)
    ess_median: float | None = None
    ess_low_share: float | None = None
    tokens: int = 0
    generate_seconds: float = 0.0
    score_seconds: float = 0.0
    shards: int = 0
    reused: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    truncated: int = 0
    rescored: int = 0
    cut: dict[str, int] = field(default_factory=dict)
    json: str = ""
    folder: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens drawn per second of generating, None where all was reused."""
        return self.tokens / self.generate_seconds if self.generate_seconds else None

    @property
    def warning(self) -> str | None:
        """One line where λ is too large for n: over a tenth of the prompts have an ESS under 2."""
        if self.ess_low_share is None or self.ess_low_share <= LOW_SHARE or self.n == 1:
            return None
        return (
            f"λ is too large for n = {self.n}: at {self.ess_low_share:.0%} of the prompts about one "
            f"sample holds all the weight, so the draws are nearly best-of-{self.n}. "
            f"Use a smaller --lam, or --nsamples {4 * self.n}; the samples at hand are reused."
        )


def mean_and_error(per_prompt: np.ndarray) -> tuple[float, float | None]:
    """Mean over prompts and its standard error s/√P, None for a single prompt."""
    n = len(per_prompt)
    error = float(np.std(per_prompt, ddof=1) / np.sqrt(n)) if n > 1 else None
    return float(np.mean(per_prompt)), error


def facts(summary: Summary) -> list[tuple[str, str]]:
    """The summary's lines but for the values' table: what, and how much."""
    rows = [("prompts", f"{summary.prompts:,}"), ("samples", f"{summary.samples:,}")]
    rows.append(("kept", f"{summary.kept:,}"))
    if summary.ess_median is not None and summary.ess_low_share is not None:
        rows.append(
            (
                "ESS",
                f"median {summary.ess_median:.1f} of {summary.n}; "
                f"under 2 at {summary.ess_low_share:.1%} of the prompts",
            )
        )
    rows += [("generated", _generated(summary)), ("reused", _reused(summary))]
    left = [(summary.skipped, "skipped"), (summary.truncated, "cut")]
    rows += [("too long", f"{count} prompts {what}") for count, what in left if count]
    rows += [("too long", f"{n:,} texts cut for {value}") for value, n in summary.cut.items() if n]
    if summary.rescored:
        own = f"{summary.rescored:,} of {summary.samples:,} texts took a forward pass of their own"
        rows.append(("perplexity", own))
    return [*rows, ("records", summary.json), ("data set", summary.folder)]


def _generated(summary: Summary) -> str:
    if not summary.tokens_per_second:
        return "nothing: every sample was in the pool"
    return f"{summary.tokens:,} tokens at {summary.tokens_per_second:,.0f} tokens/s"


def _reused(summary: Summary) -> str:
    parts = [f"{what} {count}/{summary.shards}" for what, count in summary.reused.items()]
    return "shards of " + ", ".join(parts)


def change_row(change: ValueChange) -> list[str]:
    """One value's row: name, λ, before, after, difference."""
    return [
        change.value,
        f"{change.lam:g}",
        with_error(change.before, change.before_se),
        with_error(change.after, change.after_se),
        f"{change.after - change.before:+.4f}",
    ]


HEADINGS: Final = ["value", "λ", "before the tilt", "after the tilt", "difference"]


def with_error(mean: float, error: float | None) -> str:
    """mean ± standard error, as people read it."""
    return f"{mean:.4f}" if error is None else f"{mean:.4f} ± {error:.4f}"


def markdown(summary: Summary) -> str:
    """The summary as Markdown, for the data set card and the UI."""
    lines = [f"**{summary.warning}**", ""] if summary.warning else []
    if summary.values:
        lines += [_md_row(HEADINGS), _md_row(["---"] * len(HEADINGS))]
        lines += [_md_row(change_row(change)) for change in summary.values]
        lines += ["", "Means over prompts ± standard error.", ""]
    return "\n".join([*lines, *(f"- {name}: {said}" for name, said in facts(summary))])


def _md_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
