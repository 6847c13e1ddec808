"""How counts, durations and errors read in what people are told."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

UNITS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def by_kind(kinds: Iterable[str]) -> str:
    """How many there are of each kind, the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(kinds).most_common())


def counted(count: int, noun: str, plural: str = "") -> str:
    """`count` with its noun, as 1 shard or 1,200 shards; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def reason(error: BaseException) -> str:
    """What `error` says, in one line: its first, and the second where that is only announced."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def duration(seconds: float) -> str:
    """How long something takes, as people say it: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    for size, unit, part, smaller in UNITS:
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
