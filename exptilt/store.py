"""Reading and writing on any fsspec path (a local folder or s3://): whole files or nothing.

A local file is written beside its place, flushed to disk and renamed; an S3 object appears when its
upload completes. So a reader sees the old object, the new one or none, never a part.
"""

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import polars as pl

from exptilt.errors import StorageError

PROBE = ".exptilt-write-check"
REMOTE_ERRORS = ("botocore", "aiobotocore", "aiohttp")  # not OSErrors, but failures of a store


def is_local(path: str) -> bool:
    """Whether `path` lies on this machine's file system."""
    return "://" not in path


def join(root: str, *parts: str) -> str:
    """`root` and `parts` joined by slashes, for local paths and URLs alike."""
    return "/".join([root.rstrip("/") or "/", *parts])


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of `path`, and the path as that file system spells it."""
    options = {} if is_local(path) else {"use_listings_cache": False}
    fs, inner = fsspec.core.url_to_fs(path, **options)
    return fs, inner


@contextmanager
def clear_errors(path: str, verb: str) -> Iterator[None]:
    """Turn what a file system raises into one StorageError that names the path."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"cannot {verb} {path}: it does not exist") from error
    except OSError as error:
        raise StorageError(f"cannot {verb} {path}: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in REMOTE_ERRORS:
            raise
        raise StorageError(f"cannot {verb} {path}: {error}") from error


@contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` when the block ends well, and not at all otherwise."""
    with (
        clear_errors(path, "write"),
        (_writing_local if is_local(path) else _writing_remote)(path) as f,
    ):
        yield f


@contextmanager
def _writing_local(path: str) -> Iterator[IO[bytes]]:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name[:100]}.{uuid.uuid4().hex}.tmp"
    try:
        with partial.open("wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _writing_remote(path: str) -> Iterator[IO[bytes]]:
    fs, inner = filesystem(path)
    f = fs.open(inner, "wb", autocommit=False)
    try:
        yield f
        f.close()
        f.commit()
    except BaseException:
        f.discard()
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Write `data` at `path`, whole or not at all."""
    with writing(path) as f:
        f.write(data)


def read_bytes(path: str) -> bytes:
    """The bytes at `path`; StorageError if they cannot be read."""
    with clear_errors(path, "read"):
        fs, inner = filesystem(path)
        data: bytes = fs.cat_file(inner)
        return data


def names(folder: str) -> list[str]:
    """The names in `folder`, sorted; none if there is no such folder."""
    with clear_errors(folder, "list"):
        fs, inner = filesystem(folder)
        try:
            found = fs.ls(inner, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)


def remove(path: str) -> None:
    """Remove the file or folder at `path`, if it is there."""
    with clear_errors(path, "remove"):
        fs, inner = filesystem(path)
        if fs.exists(inner):
            fs.rm(inner, recursive=True)


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, indented, UTF-8; refuses NaN and infinity."""
    write_bytes(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode())


def read_json(path: str) -> Any:
    """The JSON value at `path`."""
    data = read_bytes(path)
    try:
        return json.loads(data)
    except ValueError as error:
        raise StorageError(f"cannot read {path}: it is not JSON ({error})") from error


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """`table` as Parquet, zstd-compressed."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def check_writable(root: str) -> None:
    """Raise StorageError at once if nothing can be written and read back under `root`."""
    probe = join(root, f"{PROBE}-{uuid.uuid4().hex}")
    write_bytes(probe, b"exptilt" * 1000)
    if len(read_bytes(probe)) != 7000:
        raise StorageError(f"cannot write {root}: what was written did not come back")
    remove(probe)
