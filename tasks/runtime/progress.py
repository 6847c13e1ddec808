"""How far a run is: a bar with the time left at a terminal, a line now and then in a log, an artifact
in the UI."""

import sys
import time
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from exptilt.wording import counted

EVERY = 10.0  # seconds between lines; artifacts are written five times as often


class Progress:
    """Counts finished shards of a flow run, and shows the count."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.began = self.told = self.drawn = time.monotonic()
        self.artifact = cast(UUID, create_progress_artifact(0.0, key="exptilt-progress"))
        columns = ("shards", BarColumn(), MofNCompleteColumn(), "time left", TimeRemainingColumn())
        shown = [TextColumn(c) if isinstance(c, str) else c for c in columns]
        self.bar = Bar(*shown, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.task = self.bar.add_task("shards", total=total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self) -> None:
        """One more shard has ended."""
        self.count += 1
        self.bar.update(self.task, completed=self.count)
        now, last = time.monotonic(), self.count == self.total
        if last or now - self.drawn > EVERY / 5:
            self.drawn = now
            update_progress_artifact(self.artifact, 100.0 * self.count / self.total)
        if now - self.told > EVERY:
            self.told = now
            self._tell((now - self.began) / self.count * (self.total - self.count))

    def _tell(self, left: float) -> None:
        line = f"{self.count}/{counted(self.total, 'shard')}, about {left:.0f} s left"
        get_run_logger().info(line)
        if not sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)
