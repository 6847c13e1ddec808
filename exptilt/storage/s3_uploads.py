"""Uploads to S3 in parts, each request tried again, and nothing left behind of those whose answer was lost.

The requests of a file that is written are reached by a private name, S3File._call_s3: that of s3fs 2026.9.
"""

from contextlib import suppress
from typing import Any, Final

from exptilt.storage.s3 import with_retries

SEND_SECONDS: Final = 60.0  # for a part; aiohttp waits without end for a server that stops reading


def file_with_retries(f: Any) -> Any:
    """`f`, an s3fs file to be written, each of its requests tried again where that helps."""
    send = getattr(f, "_call_s3", None)
    if send is None:
        return f  # another store than S3

    def send_with_retries(method: str, *args: Any, **kwargs: Any) -> Any:
        tries, before = 0, _version(f) if method == "complete_multipart_upload" else None

        def once() -> Any:
            nonlocal tries
            tries += 1
            try:
                return send(method, *args, timeout=SEND_SECONDS, **kwargs)
            except FileNotFoundError:
                if before is None or tries == 1 or not _is_complete(f, before):
                    raise
                return {}

        said = with_retries(once)
        if tries > 1 and method == "create_multipart_upload":
            with suppress(Exception):  # not every key may list uploads; a bucket's own rule clears them
                _give_up_others(f, said["UploadId"])
        return said

    f._call_s3 = send_with_retries
    return f


def _version(f: Any) -> tuple[Any, ...]:
    """Size, time and ETag of the object that is there now; empty if there is none."""
    try:
        said = with_retries(lambda: f.fs.info(f.path))
    except FileNotFoundError:
        return ()
    return said["size"], said.get("LastModified"), said.get("ETag")


def _is_complete(f: Any, before: tuple[Any, ...]) -> bool:
    """Whether an upload that is no longer known had become the object, its answer lost."""
    now = _version(f)
    return now != before and now[:1] == (f.loc,)


def _give_up_others(f: Any, kept: str) -> None:
    """End the uploads of the file's key that were begun but whose answer was lost."""
    found = with_retries(lambda: f.fs.call_s3("list_multipart_uploads", Bucket=f.bucket, Prefix=f.key))
    for upload in found.get("Uploads", []):
        if upload["Key"] == f.key and upload["UploadId"] != kept:
            _give_up(f, upload["UploadId"])


def _give_up(f: Any, upload: str) -> None:
    with suppress(FileNotFoundError):  # given up already, and only the answer was lost
        with_retries(lambda: f.fs.abort_mpu(f.bucket, f.key, upload))
