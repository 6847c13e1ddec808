"""Reading and writing on any fsspec path (a local folder or s3://): whole files or nothing.

A local file is written beside its place, flushed to disk and renamed; an S3 object appears when its
upload completes. So a reader sees the old object, the new one or none, never a part. What can pass is
tried again (see s3).
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
import polars as pl

from exptilt.errors import MissingError, StorageError
from exptilt.storage import process_identity, s3
from exptilt.storage.access_errors import clear_errors
from exptilt.storage.paths import is_local, is_s3
from exptilt.storage.s3_uploads import file_with_retries


def join(root: str, *parts: str) -> str:
    """`root` and `parts` joined by slashes, for local paths and URLs alike."""
    return "/".join([root.rstrip("/") or "/", *parts])


def filesystem(path: str) -> tuple[Any, str]:
    """The fsspec file system of `path`, and the path as that file system spells it."""
    if not is_s3(path):
        fs, inner = fsspec.core.url_to_fs(path)
        return fs, inner
    fs, inner = fsspec.core.url_to_fs(path, **s3.options())
    return s3.prepared(fs), inner


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
    if target.is_symlink():  # it stays, what it points to is replaced
        target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / temporary(target.name)
    try:
        with partial.open("wb") as f:
            with suppress(FileNotFoundError):
                shutil.copymode(target, partial)
            yield f
            f.flush()
            os.fsync(f.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def temporary(name: str) -> str:
    """The name of a file that is to become `name`: it says whose it is, see leftovers."""
    short = name.encode()[:80].decode(errors="ignore")
    return f".{short}.{process_identity.token()}.{uuid.uuid4().hex}.tmp"


@contextmanager
def _writing_remote(path: str) -> Iterator[IO[bytes]]:
    """One put for a small file; else parts, each sent again where that helps, given up together."""
    fs, inner = filesystem(path)
    f = file_with_retries(fs.open(inner, "wb", block_size=s3.PART))
    try:
        yield f
        f.close()
    except BaseException:
        f.closed = True  # else it is completed when it is collected
        with suppress(Exception):  # what stopped it says more
            s3.with_retries(f.discard)
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Write `data` at `path`, whole or not at all."""
    with writing(path) as f:
        f.write(data)


def read_bytes(path: str) -> bytes:
    """The bytes at `path`; StorageError if they cannot be read."""
    with clear_errors(path, "read"):
        if is_local(path):
            return Path(path).read_bytes()
        fs, inner = filesystem(path)
        data: bytes = s3.with_retries(lambda: fs.cat_file(inner))
        return data


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """`path` itself where it is local; else a temporary file, of the same ending, with what the store has."""
    if is_local(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=Path(path).suffix[:20]) as f:
        fetch(path, f.name)
        yield f.name


def fetch(path: str, target: str) -> None:
    """Copy what a store has at `path` to the local file `target`."""
    with clear_errors(path, "read"):
        fs, inner = filesystem(path)
        s3.with_retries(lambda: fs.get_file(inner, target))


def names(folder: str) -> list[str]:
    """The names in `folder`, sorted; none if there is no such folder."""
    with clear_errors(folder, "list"):
        fs, inner = filesystem(folder)
        try:
            found = s3.with_retries(lambda: fs.ls(inner, detail=False))
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)


class Stamp(NamedTuple):
    """When a file was written, in seconds of the clock of its store, and how many bytes it has."""

    modified: float
    size: int


def stamps(folder: str) -> dict[str, Stamp]:
    """The files in `folder` by their names; none if there is no such folder."""
    with clear_errors(folder, "list"):
        fs, inner = filesystem(folder)
        try:
            found = s3.with_retries(lambda: fs.ls(inner, detail=True))
        except FileNotFoundError:
            return {}
    files = (info for info in found if info["type"] == "file")
    return {str(info["name"]).rsplit("/", 1)[-1]: _stamp(info) for info in files}


def _stamp(info: dict[str, Any]) -> Stamp:
    """As a local folder says it, or S3."""
    at = info["LastModified"].timestamp() if "LastModified" in info else info["mtime"]
    return Stamp(float(at), int(info["size"]))


def modified(path: str) -> float:
    """When the file at `path` was written, in seconds of the clock of its store."""
    with clear_errors(path, "read"):
        fs, inner = filesystem(path)
        return float(s3.with_retries(lambda: fs.modified(inner)).timestamp())


def age(path: str) -> float:
    """For how many seconds `path` is as it is, by its store's clock."""
    return store_time(path.rpartition("/")[0]) - modified(path)


def store_time(folder: str) -> float:
    """The time by the clock of a folder's store: that of a file that is written now."""
    now = join(folder, temporary("now"))
    write_bytes(now, b"now")
    try:
        return modified(now)
    finally:
        remove(now)


def remove(path: str) -> None:
    """Remove the file at `path`, if it is there."""
    with suppress(MissingError), clear_errors(path, "remove"):
        fs, inner = filesystem(path)
        s3.with_retries(lambda: fs.rm_file(inner))


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, indented, UTF-8; refuses NaN and infinity."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """`value` as JSON, indented, UTF-8; ValueError for NaN and infinity."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode()


def read_json(path: str) -> Any:
    """The JSON value at `path`."""
    data = read_bytes(path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"cannot read {path}: it is not JSON ({error})") from error


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """`table` as Parquet, zstd-compressed."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest(path: str) -> str:
    """Hex SHA-256 of the file at `path`."""
    with local_copy(path) as copy, clear_errors(path, "read"), Path(copy).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
