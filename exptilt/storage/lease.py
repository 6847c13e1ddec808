"""A lease on a piece of work, so that two runs that share a storage do it once.

The holder creates a small file (exclusively, where the store can) and rewrites it every BEAT
seconds. Who finds it waits; it is taken over when its holder is a dead process of this machine, or
when its text has not changed for TTL seconds of the waiter's own clock. No wall clock is compared.
Two takers at one moment may both do the work: the outcome is the same, since the work is
deterministic and each write is whole.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from exptilt.errors import MissingError, Stopped, StorageError
from exptilt.run import carried, current
from exptilt.storage import filesystem, process_identity, s3

BEAT = 5.0
TTL = 20.0
POLL = 0.5


@contextmanager
def held(*paths: str) -> Iterator[None]:
    """Hold the leases at `paths` for the length of the block; wait for those that others hold.

    They are taken in one order, whoever asks, so that no two wait for each other. Raises Stopped where the
    run is asked to stop while it waits.
    """
    token, mine, done = uuid.uuid4().hex, list[str](), threading.Event()
    heart = threading.Thread(target=carried(_beat), args=(mine, token, done), daemon=True)
    heart.start()
    try:
        for path in sorted(paths):
            _acquire(path, token)
            mine.append(path)
        yield
    finally:
        done.set()
        heart.join()
        for path in mine:
            with suppress(StorageError, Stopped), s3.retrying_for(BEAT):
                filesystem.remove(path)


def _acquire(path: str, token: str) -> None:
    last, since = b"", time.monotonic()
    while not filesystem.create(path, _body(token, 0)):
        try:
            now = filesystem.read_bytes(path)
        except MissingError:
            continue  # released in between: try to create it again
        if now == _body(token, 0):
            return  # the store had taken it, but its answer was lost
        if now != last:
            last, since = now, time.monotonic()
        if _is_dead(now) or time.monotonic() - since > TTL:
            filesystem.write_bytes(path, _body(token, 0))
            return
        current().pause(POLL)


def _body(token: str, beat: int) -> bytes:
    return json.dumps({"token": token, "beat": beat, **process_identity.me()}).encode()


def _beat(paths: Sequence[str], token: str, done: threading.Event) -> None:
    beat = 0
    while not done.wait(BEAT):
        beat += 1
        for path in tuple(paths):
            with (
                suppress(StorageError, Stopped),
                s3.retrying_for(BEAT),
            ):  # a missed beat costs the lease at most
                filesystem.write_bytes(path, _body(token, beat))


def _is_dead(body: bytes) -> bool:
    """Whether the holder was a process of this machine that no longer runs."""
    try:
        return process_identity.is_dead(json.loads(body))
    except ValueError:
        return False
