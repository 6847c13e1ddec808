"""What a failure of a folder or a store means for the user: one line, which names the path."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from exptilt.errors import MissingError, RefusedError, StorageError
from exptilt.storage import s3_errors
from exptilt.storage.paths import is_local

REMOTE_ERRORS = ("botocore", "aiobotocore", "aiohttp")  # not OSErrors, but failures of a store
LASTING = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EROFS EFBIG EACCES EPERM ENOTDIR EISDIR ENAMETOOLONG".split()
    if hasattr(errno, name)
)


@contextmanager
def clear_errors(path: str, verb: str) -> Iterator[None]:
    """Turn what a file system raises into one StorageError that names the path."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        remote = type(error).__module__.partition(".")[0] in REMOTE_ERRORS
        if not remote and not isinstance(error, OSError):
            raise
        raise _explained(path, verb, error) from error


def _explained(path: str, verb: str, error: Exception) -> StorageError:
    """What `error` means for the user."""
    advice = "" if is_local(path) else s3_errors.advice(error)
    if isinstance(error, FileNotFoundError) and verb != "write" and not advice:
        return MissingError(f"cannot {verb} {path}: it does not exist")
    said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    reason = f"{said}; {advice}" if advice else said
    text = f"cannot {verb} {path}: {reason}"
    return RefusedError(text, reason) if _is_lasting(path, error) else StorageError(text)


def _is_lasting(path: str, error: Exception) -> bool:
    """Whether `error` stays until someone changes something; a lost upload can be made anew."""
    if is_local(path):
        return getattr(error, "errno", None) in LASTING
    return not s3_errors.can_pass(error) and s3_errors.answer(error)[0] != "NoSuchUpload"
