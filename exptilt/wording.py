"""How a count reads in what people are told."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`count` with its noun, as 1 shard or 1,200 shards; `plural` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
