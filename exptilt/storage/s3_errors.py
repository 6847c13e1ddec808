"""What the error of an S3 store says: its code, whether another try may help, and what the user can do."""

from typing import Final

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
    if isinstance(error, FileNotFoundError):
        return False
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
