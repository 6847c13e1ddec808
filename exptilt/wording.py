"""How counts and errors read in what people are told."""

from collections import Counter
from collections.abc import Iterable


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
