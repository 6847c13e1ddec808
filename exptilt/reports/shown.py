"""Prompts with their samples, as a person looks at them: on the page of a data set, or in the terminal."""

from dataclasses import dataclass, field

from exptilt.tilting import verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSample:
    """One completion: how often it was kept, its weight among the prompt's samples, None where it is none of
    them, its numbers by name; `role` is chosen or rejected where it is of a preference pair, drawn where it
    is what a refined completion began at."""

    completion: str
    kept: int
    weight: float | None
    numbers: dict[str, float | None]
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPrompt:
    """One prompt, its turns as (role, text), role "" for a text; `samples` are by weight, `count` is of all.

    `refined` are completions that are none of the samples. `levels` are the values' means over the
    completions kept; `ess` and `needed` are None without a tilt.
    """

    prompt_id: str
    index: int
    turns: tuple[tuple[str, str], ...]
    samples: tuple[ShownSample, ...]
    count: int
    refined: tuple[ShownSample, ...] = ()
    reference: str | None = None
    ess: float | None = None
    needed: float | None = None
    levels: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The certificate's word on this prompt alone; empty without a tilt."""
        if self.ess is None or self.needed is None:
            return ""
        return verdict.verdict(self.count, float(self.ess < verdict.LOW_ESS), float(self.needed > self.count))
