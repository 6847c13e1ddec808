"""S3 file systems: where they answer, how long they are waited for, and what is tried again.

botocore and s3fs each have a retry layer that waits on its own, counts nothing and multiplies with the
other (one hung call: 5 × 5 × 15 s); both are off, and `with_retries` is the only one.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from exptilt.run import current
from exptilt.storage.paths import check_endpoint
from exptilt.storage.s3_errors import can_pass

ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # botocore's own names
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
TRIES, PAUSE = 6, 0.2  # pauses of 0.2, 0.4, … 3.2 s, each cut by a random part of its half
PART = 16 * 2**20  # bytes of a part; stores take 10,000 parts, so 156 GiB

R = TypeVar("R")
_patience: ContextVar[float] = ContextVar("patience", default=90.0)


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


@contextmanager
def retrying_for(seconds: float) -> Iterator[None]:
    """In the block, begin no further try later than `seconds` after the first."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)
