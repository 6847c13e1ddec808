"""What a killed run left behind: temporary files and leases, removed once their process is dead for sure.

A temporary file has its process in its name, a lease in its text; a live one's, and another machine's, are
left alone.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from exptilt.errors import StorageError
from exptilt.run import carried
from exptilt.storage import filesystem, process_identity, s3

AT_ONCE: Final = 16  # folders; a store answers in some 20 ms


def sweep(folders: Iterable[str]) -> None:
    """Remove the leftovers of dead processes directly in `folders`; a store that fails ends it."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        with suppress(StorageError):
            list(pool.map(carried(_sweep), sorted(set(folders))))
    finally:
        pool.shutdown(cancel_futures=True)


def _sweep(folder: str) -> None:
    with s3.retrying_for(filesystem.CHECK_SECONDS):
        for name in filesystem.names(folder):
            path = filesystem.join(folder, name)
            if _is_left(path, name):
                filesystem.remove(path)


def _is_left(path: str, name: str) -> bool:
    if name.endswith(".lease"):
        with suppress(StorageError):
            return process_identity.is_dead(filesystem.read_json(path))
    parts = name.rsplit(".", 3)
    return len(parts) == 4 and parts[3] == "tmp" and process_identity.token_is_dead(parts[1])
