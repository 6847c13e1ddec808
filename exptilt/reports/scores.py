"""What scoring a file gave."""

from dataclasses import dataclass, field

from exptilt.reports.summary import Estimate


@dataclass(slots=True, kw_only=True)
class Scores:
    """A scored file: where it is, and the mean of each value with its standard error."""

    file: str
    records: int
    means: dict[str, Estimate] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    cut: dict[str, int] = field(default_factory=dict)
