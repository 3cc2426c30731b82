"""What a failed S3 request means: the one place where answers and library errors become `Transient` or `Permanent`."""

from __future__ import annotations

import datetime as dt
from http import HTTPStatus

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from bikeflow.core.errors import BikeflowError, NotFound, Permanent, Transient
from bikeflow.core.model import UTC
from bikeflow.runtime.retry import retry_after_seconds


class Exists(Permanent):
    """There is an object already where only a new one was to be put."""


class BadAnswer(Exception):
    """The store answered, but not with what was asked for; the text says in what way."""


EXPECTED = (
    BadAnswer,
    ClientError,
    BotoCoreError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    # What botocore's parsers let out, and what reading an answer gives that lacks something.
    ResponseParserError,
    ValueError,
    KeyError,
)
"""Every kind of error that a request can end with, but for cancellation and bugs."""

_NETWORK = (BotoConnectionError, HTTPClientError, IncompleteReadError, aiohttp.ClientError, TimeoutError, OSError)

_TRANSIENT_CODES = frozenset({
    # 4xx answers that tell of a damaged or unlucky request, not of a wrong one
    "BadDigest", "IncompleteBody", "OperationAborted", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch",
    # a clock is put right by time synchronisation, often soon after boot
    "RequestTimeTooSkewed",
})  # fmt: skip
_TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
_PERMANENT_STATUSES = frozenset({501, 505})

_ADVICE = {
    "AuthorizationHeaderMalformed": "check storage.region",
    "InvalidAccessKeyId": "the store doesn't know the access key: check storage.access_key_id",
    "NoSuchBucket": "there is no such bucket: create it, or check storage.bucket and storage.endpoint_url",
    "QuotaExceeded": "the bucket's or the user's quota is used up",
    "RequestTimeTooSkewed": "this machine's clock and the store's differ: check the time synchronisation",
    "SignatureDoesNotMatch": "the secret key is not that of the access key: check storage.secret_access_key",
    301: "check storage.endpoint_url and storage.region",
    403: "check the access key, the secret key, this machine's clock and the bucket's policy",
    404: "check storage.bucket and storage.endpoint_url",
    405: "check storage.endpoint_url: it doesn't seem to be an S3 endpoint",
}


def translated(error: BaseException, doing: str) -> BikeflowError:
    """The error as roles understand it; `doing` begins its one line ("get 'key' from s3://bucket at https://…")."""
    if isinstance(error, ClientError):
        return _answered(error, doing)
    if isinstance(error, BadAnswer):
        return Transient(f"{doing}: {error}")
    if isinstance(getattr(error, "kwargs", {}).get("error"), aiohttp.ClientConnectorCertificateError):
        return Permanent(f"{doing}: {_cause(error)}; check storage.ca_bundle and storage.endpoint_url")
    if isinstance(error, _NETWORK):
        return Transient(f"{doing}: {_cause(error)}")
    if isinstance(error, BotoCoreError):
        return Permanent(f"{doing}: {_one_line(error)}")
    return Transient(f"{doing}: an answer that can't be read, is this an S3 endpoint? ({_one_line(error)})")


def _answered(error: ClientError, doing: str) -> BikeflowError:
    """The meaning of an answer with an error status."""
    answer = error.response.get("ResponseMetadata", {})
    status = int(answer.get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = f"HTTP {status}" if code in {"", str(status)} else f"HTTP {status} {code}"
    if status == 404 and code != "NoSuchBucket" and error.operation_name != "ListObjectsV2":
        return NotFound(f"{doing}: {said}")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return Exists(f"{doing}: {said}")
    advice = _ADVICE.get(code) or _ADVICE.get(status) or _one_line(error.response.get("Error", {}).get("Message", ""))
    text = f"{doing}: {said}; {advice}" if advice else f"{doing}: {said}"
    if (
        code in _TRANSIENT_CODES
        or status in _TRANSIENT_STATUSES
        or (status >= 500 and status not in _PERMANENT_STATUSES)
    ):
        wait = retry_after_seconds(answer.get("HTTPHeaders", {}).get("retry-after"), dt.datetime.now(UTC))
        return Transient(text, retry_after_seconds=wait)
    return Permanent(text)


def _cause(error: BaseException) -> str:
    """The library's own words: botocore wraps what aiohttp said, and a time-out says nothing."""
    inner = getattr(error, "kwargs", {}).get("error") or error
    if isinstance(inner, TimeoutError) and not isinstance(inner, aiohttp.ClientError):
        return "no answer in time"
    return _one_line(inner) or type(inner).__name__


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]
