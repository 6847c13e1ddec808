"""The progress of a run, for who looks at it: at the terminal, in a log, and on the live page.

A thread of its own sums up each shard that has ended, and now and then writes what this process does, reads
what others have written, and makes the page anew. Where the store fails, the run goes on without.
"""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final
from uuid import uuid4

from rich.console import Console

from exptilt.errors import StorageError
from exptilt.meter import Meter, Speed
from exptilt.outputs import progress_store
from exptilt.outputs.live_page import LivePage
from exptilt.outputs.planned_facts import config_of, facts_of, key_of
from exptilt.outputs.shard_figures import Outcome, figures_of
from exptilt.planning.plan import Plan
from exptilt.planning.score_file import ScorePlan
from exptilt.reports import live_terminal, live_text
from exptilt.reports.shard_figures import ShardFigures
from exptilt.reports.standing import Process, Standing
from exptilt.run import Run
from exptilt.storage import filesystem, pool, process_identity, s3, write_checks

FIRST_SECONDS, LOOK_SECONDS = 5.0, 30.0  # between looks at the store, at first and later
LINE_SECONDS: Final = 10.0
TICK_SECONDS: Final = 0.5
CLUSTER: Final = "cluster"


class Progress:
    """How far a run is; its threads share one."""

    def __init__(self, plan: Plan | ScorePlan) -> None:
        self.plan, self.facts, self.key = plan, facts_of(plan), key_of(plan)
        self.root = config_of(plan).save_directory
        self._name = f"{process_identity.token()}_{uuid4().hex[:8]}"
        self._pages, self._store = LivePage(self.root), progress_store.Progress(self.root)
        self._meter, self._speed = plan.run.meter, Speed()
        self._is_elsewhere = config_of(plan).runner != "threads"
        self._ended, self._own = SimpleQueue[tuple[int, Outcome]](), dict[int, ShardFigures]()
        self._at_work, self._others = set[int](), Standing(facts=self.facts)
        self._lock, self._began, self._told = threading.Lock(), time.monotonic(), False
        self.has_ended = False

    def began(self, place: int) -> None:
        """This process has the shard at `place` now."""
        with self._lock:
            self._at_work.add(place)

    def ended(self, place: int, outcome: Outcome) -> None:
        """The shard at `place` has ended.

        Args:
            place: the shard's.
            outcome: what its last step gave, or what it failed with.
        """
        with self._lock:
            self._at_work.discard(place)
        self._ended.put((place, outcome))

    def now(self) -> Standing:
        """How far the configuration is: what this process knows, and what others have written."""
        with self._lock:
            return Standing(
                facts=self.facts,
                shards={**self._others.shards, **self._own},
                processes={**self._others.processes, self._name: self._process()},
                alive={*self._others.alive, self._name} - ({self._name} if self.has_ended else set()),
            )

    def _process(self) -> Process:
        counts, mine = self._meter.read(), self._own.values()
        tokens = sum(counts.tokens.values())
        return Process(
            host=socket.gethostname(),
            holder=process_identity.me(),
            has_ended=self.has_ended,
            at_work=tuple(sorted(self._at_work)),
            speed={} if self.has_ended else self._speed.now(),
            tokens=tokens,
            samples=counts.samples,
            drawn_tokens=counts.drawn_tokens,
            draw_seconds=counts.draw_seconds,
            rewards=counts.rewards,
            score_seconds=counts.score_seconds,
            seconds=counts.seconds,
            beside=counts.beside,
            unfinished_tokens=max(tokens - sum(shard.drawn_tokens for shard in mine), 0),
            unfinished_rewards=max(counts.rewards - sum(shard.rewards for shard in mine), 0),
            unfinished_samples=max(counts.samples - sum(shard.drawn for shard in mine), 0),
            unfinished_reused=max(counts.reused - sum(shard.samples - shard.drawn for shard in mine), 0),
        )

    def tick(self) -> None:
        """Note the speed, and sum up the shards that have ended meanwhile."""
        self._speed.note(self._meter.read().tokens)
        while True:
            try:
                place, outcome = self._ended.get_nowait()
            except Empty:
                return
            self._sum_up(place, outcome)

    def _sum_up(self, place: int, outcome: Outcome) -> None:
        figures = ShardFigures(
            host=socket.gethostname(), ended=time.time(), prompts=self.facts.prompts[place]
        )
        with self._lenient():
            figures = figures_of(self.plan, place, outcome)
            if self._is_elsewhere:  # where no meter of this process counts
                self._meter.drew(CLUSTER, figures.drawn_tokens)
                self._meter.scored(figures.rewards, 0.0)
            figures = progress_store.keep_shard(self.root, self.key, place, figures)
        with self._lock:
            self._own[place] = figures

    def look(self) -> None:
        """Write what this process does, read what others have written, and make the page anew."""
        with self._lenient():
            progress_store.write_process(self.root, self.key, self._name, self.now().processes[self._name])
            found = self._store.look()
            with self._lock:
                self._others = found.get(self.key, self._others)
            self._pages.write({**found, self.key: self.now()})

    def begin(self) -> None:
        """Say what is planned, and look for the first time."""
        with self._lenient():
            progress_store.write_facts(self.root, self.key, self.facts)
        self.look()

    def end(self) -> None:
        """Look for the last time; what is said of a configuration that has its outputs is removed."""
        self.has_ended = True
        self.tick()
        self.look()
        with self._lenient():
            if self.now().is_done and not self.now().alive and self._has_outputs():
                progress_store.forget(self.root, self.key)
                self._pages.write(self._store.look())

    def _has_outputs(self) -> bool:
        folder = filesystem.join(self.root, self.facts.output).rpartition("/")[0]
        return not self.facts.output or pool.MANIFEST in filesystem.names(folder)

    @contextmanager
    def _lenient(self) -> Iterator[None]:
        """Go on where the store fails, and say so once: the run's own steps will, if it stays so."""
        try:
            with s3.retrying_for(write_checks.CHECK_SECONDS):
                yield
        except StorageError as error:
            if not self._told:
                print(f"note: the live page is not up to date: {error}", file=sys.stderr, flush=True)
            self._told = True

    def last_line(self) -> str:
        """What is said at the end."""
        return live_text.last_line(self.now(), time.monotonic() - self._began)


@contextmanager
def watched(plan: Plan | ScorePlan) -> Iterator[Progress]:
    """Show the progress of a run for the length of the block: on standard error, and on the live page."""
    plan.run.meter = Meter()  # what was tried while planning is none of the run's
    progress, console, done = Progress(plan), Console(stderr=True), threading.Event()
    thread = threading.Thread(target=_watch, args=(progress, console, done), daemon=True)
    thread.start()
    try:
        with live_terminal.shown(console, progress.now):
            yield progress
    finally:
        done.set()
        thread.join()
        if live_terminal.is_live(console):
            console.print(progress.last_line(), highlight=False, soft_wrap=True)


def _pause(elapsed: float) -> float:
    """The seconds between looks: fewer while the run is young."""
    return min(max(elapsed / 4, FIRST_SECONDS), LOOK_SECONDS)


def _watch(progress: Progress, console: Console, done: threading.Event) -> None:
    """Keep the figures until `done`; in a run of its own, which a stop does not reach."""
    with Run(progress.plan.run.endpoint).entered():
        progress.begin()
        looked = told = began = time.monotonic()
        while not done.wait(TICK_SECONDS):
            progress.tick()
            now = time.monotonic()
            if now - looked > _pause(now - began):
                progress.look()
                looked = now
            if not live_terminal.is_live(console) and now - told > LINE_SECONDS:
                print(live_text.line(progress.now()), file=sys.stderr, flush=True)
                told = now
        progress.end()
