"""Creating a file only where there is none: of several writers one is the first."""

import errno
import os
from pathlib import Path

from exptilt.storage import s3, s3_errors
from exptilt.storage.access_errors import clear_errors
from exptilt.storage.filesystem import filesystem, temporary, write_bytes
from exptilt.storage.paths import is_local

LINKLESS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def create(path: str, data: bytes, lasts: bool = True) -> bool:
    """Write the small file `path`, whole, unless there is one; False if there was.

    A store that cannot create exclusively writes it anyway.

    Args:
        path: where.
        data: what.
        lasts: whether it is to outlast the machine's power, for which the disk is waited for.
    """
    with clear_errors(path, "write"):
        return _create_local(path, data, lasts) if is_local(path) else _create_remote(path, data)


def _create_local(path: str, data: bytes, lasts: bool) -> bool:
    """A file of another name is given this one as well, which fails where there is one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / temporary(target.name)
    try:
        with partial.open("xb") as f:
            f.write(data)
            f.flush()
            if lasts:
                os.fsync(f.fileno())
        _link(partial, target, data)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _link(partial: Path, target: Path, data: bytes) -> None:
    try:
        target.hardlink_to(partial)
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        _write_new(target, data)


def _write_new(target: Path, data: bytes) -> None:
    """Where there are no links, `target` may be seen before its text is."""
    with target.open("xb") as f:
        try:
            f.write(data)
            f.flush()
        except BaseException:
            target.unlink()
            raise


def _create_remote(path: str, data: bytes) -> bool:
    fs, inner = filesystem(path)
    try:
        s3.with_retries(lambda: fs.pipe_file(inner, data, mode="create"))
    except FileExistsError:
        return False
    except OSError as error:
        match s3_errors.answer(error)[1]:
            case 409 | 412:
                return False
            case 501:  # the store has no such write
                write_bytes(path, data)
            case _:
                raise
    return True
