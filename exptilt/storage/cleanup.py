"""What a killed run left behind: temporary files and leases, removed once their process has certainly ended.

A temporary file has its process in its name, a lease in its text; a live one's, and another machine's, are
left alone, but for leases that were not renewed for LONG. Tables in an entry of the pool that its manifest
does not name go as well.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from exptilt.errors import StorageError
from exptilt.run import carried
from exptilt.storage import filesystem, pool, process_identity, s3, write_checks

LONG: Final = 3_600.0  # seconds, by the store's own clock; a lease is renewed every few
AT_ONCE: Final = 16  # folders; a store answers in some 20 ms


def sweep(folders: Iterable[str]) -> None:
    """Remove the leftovers of ended processes directly in `folders`; a store that fails ends it."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        with suppress(StorageError):
            list(pool.map(carried(_sweep), sorted(set(folders))))
    finally:
        pool.shutdown(cancel_futures=True)


def _sweep(folder: str) -> None:
    with s3.retrying_for(write_checks.CHECK_SECONDS):
        names = filesystem.names(folder)
        left = [name for name in names if _is_left(filesystem.join(folder, name), name)]
        for name in [*left, *_unnamed(folder, names)]:
            filesystem.remove(filesystem.join(folder, name))


def _unnamed(folder: str, names: Sequence[str]) -> Iterator[str]:
    """The tables in the folder of a whole entry that its manifest does not name: those of a second writer."""
    tables = [name for name in names if pool.table_of(name)]
    if max(Counter(map(pool.table_of, tables)).values(), default=0) > 1 and (entry := pool.find(folder)):
        kept = set(map(entry.file, entry.files))
        yield from (name for name in tables if filesystem.join(folder, name) not in kept)


def _is_left(path: str, name: str) -> bool:
    if name.endswith(".lease"):
        with suppress(StorageError):
            return process_identity.is_dead(filesystem.read_json(path)) or filesystem.age(path) > LONG
    parts = name.rsplit(".", 3)
    return len(parts) == 4 and parts[3] == "tmp" and process_identity.token_is_dead(parts[1])
