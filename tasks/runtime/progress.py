"""The progress of a flow: that of every run, and beside it a bar and log lines in the UI."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from exptilt.outputs import progress
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.reports import live_text
from exptilt.reports.remaining import share_done
from exptilt.run import current

BAR_SECONDS: Final = 2.0
LINE_SECONDS: Final = 10.0
DESCRIPTION: Final = "How much of the run is done, by its tokens and rewards"


class Watched:
    """What is shown of a flow run; the flow's own thread tells it of shards."""

    def __init__(self, shown: progress.Progress) -> None:
        self._shown = shown
        self._bar = cast(UUID, create_progress_artifact(0.0, "exptilt-progress", DESCRIPTION))
        self._drawn = self._told = time.monotonic()

    def began(self, place: int) -> None:
        """A shard has begun."""
        self._shown.began(place)

    def ended(self, place: int, outcome: Any) -> None:
        """A shard has ended."""
        self._shown.ended(place, outcome)

    def tick(self) -> None:
        """Write bar and line anew, where it is time."""
        now = time.monotonic()
        if now - self._drawn > BAR_SECONDS:
            self._drawn = now
            update_progress_artifact(self._bar, 100.0 * share_done(self._shown.now()))
        if now - self._told > LINE_SECONDS:
            self._told = now
            get_run_logger().info(live_text.line(self._shown.now()))

    def end(self) -> None:
        """All shards have ended."""
        update_progress_artifact(self._bar, 100.0)


def watched(plan: Plan | ScorePlan) -> Watched:
    """Show the progress of a flow run until that ends, from now on."""
    return current().owned("progress", lambda: _watched(plan), lambda _: True)


@contextmanager
def _watched(plan: Plan | ScorePlan) -> Iterator[Watched]:
    with progress.watched(plan) as shown:
        yield Watched(shown)
