"""Checks, before anything expensive starts, that results can be written where they are to go."""

import os
from pathlib import Path

from exptilt.errors import RefusedError, StorageError
from exptilt.storage import s3
from exptilt.storage.filesystem import join, read_bytes, remove, temporary, write_bytes
from exptilt.storage.paths import is_local

PROBE = "exptilt-write-check"
CHECK_SECONDS = 5.0  # how long a run that begins tries a store again that does not answer


def check_writable(root: str) -> None:
    """Raise StorageError soon if nothing can be written and read back under `root`."""
    probe = join(root, temporary(PROBE))
    with s3.retrying_for(CHECK_SECONDS):
        write_bytes(probe, b"exptilt" * 1000)
        if len(read_bytes(probe)) != 7000:
            raise StorageError(f"cannot write {root}: what was written did not come back")
        remove(probe)


def check_replaceable(path: str) -> None:
    """Raise StorageError soon if no file can be written at `path`; one that is there stays as it is."""
    if not is_local(path):
        check_writable(path.rpartition("/")[0])
        return
    target = Path(path).resolve()
    if target.is_dir():
        raise RefusedError(f"cannot write {path}: it is a folder")
    if target.exists() and not os.access(target, os.W_OK):
        raise RefusedError(f"cannot write {path}: it is write-protected; give an --output, or chmod it")
    check_writable(str(target.parent))
