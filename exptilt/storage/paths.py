"""Paths of folders and stores, and addresses of stores: which is which, and no credentials in them."""

from typing import Final
from urllib.parse import urlsplit

from exptilt.errors import ConfigError

ENDPOINT: Final = r"^(https?://[^/@?#\s]+(/[^@?#\s]*)?)?$"


def is_local(path: str) -> bool:
    """Whether `path` lies on this machine's file system."""
    return "://" not in path


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
