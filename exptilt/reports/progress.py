"""How far a run without Prefect is: a bar with the time left at a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exptilt.wording import counted

LINE_SECONDS: Final = 10.0
T = TypeVar("T")


def watched(shards: Sequence[T]) -> Iterator[T]:
    """`shards`, one after the other, while standard error shows how many are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _with_lines(shards)
        return
    columns = ("shards", BarColumn(), MofNCompleteColumn(), "time left", TimeRemainingColumn())
    with Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns), console=console) as bar:
        yield from bar.track(shards, total=len(shards))


def _with_lines(shards: Sequence[T]) -> Iterator[T]:
    began = told = time.monotonic()
    for done, shard in enumerate(shards):
        now = time.monotonic()
        if done and now - told > LINE_SECONDS:
            told, seconds = now, (now - began) / done * (len(shards) - done)
            print(
                f"{done}/{counted(len(shards), 'shard')}, about {seconds:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        yield shard
