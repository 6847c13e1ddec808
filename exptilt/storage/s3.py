"""S3 file systems: where they answer, how long they are waited for, and what is tried again.

botocore and s3fs each have a retry layer that waits on its own, counts nothing and multiplies with the
other (one hung call: 5 × 5 × 15 s); both are off, and `with_retries` is the only one. The requests of a file
that is written are reached by a private name, S3File._call_s3: that of s3fs 2026.9.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from exptilt.errors import ConfigError
from exptilt.run import current

ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # botocore's own names
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
SEND_SECONDS = 60.0  # for a part; aiohttp waits without end for a server that stops reading
TRIES, PAUSE = 6, 0.2  # pauses of 0.2, 0.4, … 3.2 s, each cut by a random part of its half
PART = 16 * 2**20  # bytes of a part; stores take 10,000 parts, so 156 GiB
PATTERN: Final = r"^(https?://[^/@?#\s]+(/[^@?#\s]*)?)?$"
PASSING: Final = frozenset(
    "SlowDown InternalError ServiceUnavailable RequestTimeout IncompleteBody BadDigest OperationAborted "
    "ConditionalRequestConflict Throttling ThrottlingException RequestLimitExceeded "
    "TooManyRequestsException XAmzContentSHA256Mismatch".split()
)
PASSING_STATUS: Final = frozenset({429, 500, 502, 503, 504})
WRONG_KEYS: Final = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
ADVICE: Final = {
    "NoSuchBucket": "create the bucket, or check the path and --endpoint-url",
    "AccessDenied": "these credentials may not do that; they must list, get, put and delete objects there",
    "RequestTimeTooSkewed": "set this machine's clock",
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), WRONG_KEYS),
    **dict.fromkeys(("InvalidToken", "ExpiredToken"), WRONG_KEYS),
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    **dict.fromkeys(
        ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"),
        "is the server up, and --endpoint-url or AWS_ENDPOINT_URL right?",
    ),
}

R = TypeVar("R")
_patience: ContextVar[float] = ContextVar("patience", default=90.0)


def is_s3(path: str) -> bool:
    """Whether `path` is an object or a prefix of a bucket."""
    return path.startswith(("s3://", "s3a://"))


def check_endpoint(url: str) -> str:
    """`url`, if it is empty or http(s)://host[:port]; ConfigError, which does not repeat it, otherwise."""
    parts = urlsplit(url)
    secret = parts.username or parts.password or parts.query or parts.fragment
    if url and (secret or parts.scheme not in ("http", "https") or not parts.hostname):
        raise ConfigError(
            "--endpoint-url and AWS_ENDPOINT_URL: give http://host:port or https://host, no credentials; "
            "these belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return url


def check_path(path: str) -> str:
    """`path`, unless it is an s3:// URL with credentials in it: ConfigError, which does not repeat it."""
    if is_s3(path) and "@" in urlsplit(path).netloc:
        raise ConfigError(
            "an s3:// path must not hold credentials; these belong in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    return path


def endpoint() -> str:
    """Where the current run reaches S3: its own endpoint, else the environment's; "" for AWS."""
    found = [current().endpoint, *(os.environ.get(name, "") for name in ENDPOINTS)]
    return check_endpoint(next(filter(None, found), ""))


def options() -> dict[str, Any]:
    """What s3fs is told; an endpoint that botocore would find by itself is named, so that two never mix.

    Parts of one size are what R2 asks for; one transfer at a time keeps memory to a part.
    """
    return {
        "endpoint_url": endpoint() or None,
        "use_listings_cache": False,
        "fixed_upload_size": True,
        "max_concurrency": 1,
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        },
    }


def prepared(fs: Any) -> Any:
    """`fs` without s3fs' retries and without `Expect: 100-continue`, to which aiohttp waits without end."""
    from botocore.handlers import add_expect_header

    fs.retries = 1
    fs.s3.meta.events.unregister("before-call.s3", add_expect_header)
    return fs


def with_retries(operation: Callable[[], R]) -> R:
    """What `operation` gives, tried again after an error that can pass, with growing pauses.

    Each further try is counted by the current run; Stopped where that is asked to stop meanwhile.
    """
    began = time.monotonic()
    for tried in range(TRIES):
        try:
            return operation()
        except Exception as error:
            late = time.monotonic() - began > _patience.get()
            if late or tried == TRIES - 1 or not can_pass(error):
                raise
        current().count_retry()
        current().pause(PAUSE * 2**tried * random.uniform(0.5, 1.0))
    raise AssertionError("a last try returns or raises")


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


@contextmanager
def retrying_for(seconds: float) -> Iterator[None]:
    """In the block, begin no further try later than `seconds` after the first."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


def answer(error: BaseException | None) -> tuple[str, int]:
    """Code and HTTP status of the store's answer behind `error`; "" and 0 where there was none."""
    from botocore.exceptions import ClientError

    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    if error is None:
        return "", 0
    said = error.response
    return str(said["Error"].get("Code", "")), int(said["ResponseMetadata"].get("HTTPStatusCode", 0))


def can_pass(error: BaseException) -> bool:
    """Whether `error` may be gone at the next try: a lost connection, a timeout, a cut body, a busy store."""
    import aiohttp
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    code, status = answer(error)
    if code:
        return code in PASSING or status in PASSING_STATUS
    lost = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.FlexibleChecksumError)
    passing = (*lost, ResponseParserError, aiohttp.ClientError, TimeoutError, ConnectionError)
    return isinstance(error, passing) and not isinstance(error, boto.SSLError)


def advice(error: BaseException) -> str:
    """What to do about `error`, where that is known; "" otherwise."""
    code, status = answer(error)
    if status == 403 and code not in ADVICE:
        code = "AccessDenied"
    return ADVICE.get(code or type(error).__name__, "")
