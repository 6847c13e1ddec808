"""A lease on a piece of work, so that runs that share a storage do it once.

The holder creates a small file (exclusively, where the store can) and rewrites it every BEAT seconds. It is
taken over when its holder is a dead process of this machine, or when its text has not changed for TTL seconds
of the clock of who waits. No wall clock is compared. A holder that was paused so long notices at its next
beat that the lease is another's, and leaves it alone. Two that take one over at the same moment may both do
the work: the pool keeps what the first one finishes.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from exptilt.errors import MissingError, Stopped, StorageError
from exptilt.run import carried, current
from exptilt.storage import exclusive, filesystem, process_identity, s3

BEAT = 5.0
TTL = 20.0
POLL = 0.5
STOPPING: Final = "stopping"


class Leases:
    """Leases that are taken one by one, kept alive by one thread, and given back with the block."""

    def __init__(self, on_death: Callable[[str, dict[str, Any], float], None] | None = None) -> None:
        """`on_death` is told of a lease that is taken over: where, its dead holder, and when that was last
        alive by the store's clock; not of a holder that was asked to stop before."""
        self._on_death, self._run = on_death, current()
        self._token, self._beats = uuid.uuid4().hex, 0
        self._held: set[str] = set()
        self._seen: dict[str, tuple[bytes, float]] = {}  # the texts of others, and since when they stay
        self._writing, self._done = threading.Lock(), threading.Event()
        self._heart = threading.Thread(target=carried(self._beat), daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._heart.join()
        for path in tuple(self._held):
            self.give_back(path)

    def try_take(self, path: str) -> bool:
        """Whether the lease at `path` is ours now: it was free, or its holder has died."""
        at = time.monotonic()
        try:
            text = filesystem.read_bytes(path)
        except MissingError:
            taken = exclusive.create(path, self._text(), lasts=False)
        else:
            taken = self._is_ours(text) or self._is_over(path, text, at)
            if taken:
                self._tell_of(path, text)
                filesystem.write_bytes(path, self._text())
        if taken:
            self._held.add(path)
        return taken

    def _tell_of(self, path: str, text: bytes) -> None:
        if self._on_death is None or self._is_ours(text):
            return
        with suppress(MissingError, ValueError, KeyError, TypeError):
            holder = json.loads(text)
            if not holder[STOPPING]:
                self._on_death(path, holder, filesystem.modified(path))

    def take(self, *paths: str) -> None:
        """Wait until the leases at `paths` are ours; Stopped where the run is asked to stop meanwhile.

        They are taken in one order, whoever asks, so that no two wait for each other.
        """
        waiting = sorted(paths)
        while waiting:
            if self.try_take(waiting[0]):
                del waiting[0]
                continue
            for path in waiting[1:]:
                self._watch(path)
            current().pause(POLL)

    def give_back(self, path: str) -> None:
        """Let others have the lease at `path`, unless it is another's already."""
        with self._writing:
            self._held.discard(path)
            with suppress(StorageError, Stopped), s3.retrying_for(BEAT):
                if self._is_ours(filesystem.read_bytes(path)):
                    filesystem.remove(path)

    def _watch(self, path: str) -> None:
        at = time.monotonic()
        with suppress(MissingError):
            self._is_over(path, filesystem.read_bytes(path), at)

    def _is_over(self, path: str, text: bytes, at: float) -> bool:
        """Whether the holder that wrote `text`, read after the moment `at`, has died."""
        seen = self._seen.get(path)
        if seen is None or seen[0] != text:
            seen = self._seen[path] = text, at
        return _is_dead(text) or at - seen[1] > TTL

    def _text(self) -> bytes:
        said = {"token": self._token, "beat": self._beats, STOPPING: self._run.is_stopping}
        return json.dumps({**said, **process_identity.me()}).encode()

    def _is_ours(self, text: bytes) -> bool:
        return f'"{self._token}"'.encode() in text

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            self._beats += 1
            for path in tuple(self._held):
                with self._writing, suppress(StorageError, Stopped), s3.retrying_for(BEAT):
                    self._renew(path)  # a missed beat costs the lease at most

    def _renew(self, path: str) -> None:
        if path in self._held and self._is_ours(filesystem.read_bytes(path)):
            filesystem.write_bytes(path, self._text())


@contextmanager
def held(*paths: str) -> Iterator[None]:
    """Hold the leases at `paths` for the length of the block; wait for those that others hold.

    Raises Stopped where the run is asked to stop while it waits.
    """
    with Leases() as leases:
        leases.take(*paths)
        yield


def is_held(path: str) -> bool:
    """Whether someone holds the lease at `path`, and has renewed it of late."""
    try:
        return not _is_dead(filesystem.read_bytes(path)) and filesystem.age(path) < TTL
    except MissingError:
        return False


def _is_dead(text: bytes) -> bool:
    """Whether the holder was a process of this machine that no longer runs."""
    try:
        return process_identity.is_dead(json.loads(text))
    except ValueError:
        return False
