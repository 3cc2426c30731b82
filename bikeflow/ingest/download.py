"""One HTTP download of the feed: conditional, bounded in time, size and redirects; errors become ours."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import zlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NoReturn, TypeVar

import aiohttp
from aiohttp import hdrs

from bikeflow import __version__
from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.model import UTC
from bikeflow.feeds.base import Answer
from bikeflow.ingest.destinations import Destinations
from bikeflow.runtime.retry import LONGEST_REQUESTED_WAIT_SECONDS, retry_after_seconds
from bikeflow.settings.sections import FeedSettings
from bikeflow.settings.systems import public_url

USER_AGENT = f"bikeflow/{__version__} (archives a public bike-share feed)"
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
Failure = TypeVar("Failure", Transient, Permanent)
_CHUNK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f"
_MAX_MEMBERS = 1_000
"""Servers send one or a few; a body of a million empty ones would take hours."""
_WORTH_A_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def new_session(connections_per_host: int, *, anywhere: bool) -> aiohttp.ClientSession:
    """What downloads go through, to public addresses only or `anywhere`; its user closes it."""
    destinations = Destinations(anywhere=anywhere)
    return aiohttp.ClientSession(
        # So many hosts may hang at once as there are: none of them takes the connections of others.
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=connections_per_host, resolver=destinations),
        trace_configs=[destinations.tracing()],
        headers={hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT_ENCODING: "gzip, deflate"},
        # aiohttp takes a gzip body that ends too early for a whole one, so `_unpacked` does its work.
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def download(
    session: aiohttp.ClientSession, settings: FeedSettings, url: str, validators: tuple[str, str] | None
) -> Answer:
    """Download a document unless it still has these validators, its ETag and Last-Modified.

    Raises `Transient` for what may pass (timeouts, broken connections and bodies, 5xx, 429), else `Permanent`.
    """
    etag, last_modified = validators or ("", "")
    headers = {hdrs.IF_NONE_MATCH: etag, hdrs.IF_MODIFIED_SINCE: last_modified}
    conditions = {name: value for name, value in headers.items() if value}
    place, asked_at = public_url(url), time.monotonic()
    total = settings.timeout_seconds
    timeout = aiohttp.ClientTimeout(
        total=total, sock_connect=min(CONNECT_SECONDS, total), sock_read=total, ceil_threshold=float("inf")
    )
    try:
        async with (
            asyncio.timeout(total),
            session.get(url, headers=conditions, max_redirects=MAX_REDIRECTS, timeout=timeout) as response,
        ):
            body = None
            if response.status == HTTPStatus.OK:
                body = await _body(response, place, settings.max_bytes)
            elif response.status != HTTPStatus.NOT_MODIFIED or not conditions:
                _refuse(response, place)
            return Answer(
                status=response.status,
                body=body,
                content_type=_plain(response.headers.get(hdrs.CONTENT_TYPE)),
                charset=response.charset,
                etag=_plain(response.headers.get(hdrs.ETAG)),
                last_modified=_plain(response.headers.get(hdrs.LAST_MODIFIED)),
                asked_at=asked_at,
                server_time=_server_time(response.headers),
            )
    except aiohttp.ConnectionTimeoutError as error:
        seconds = min(CONNECT_SECONDS, total)
        raise _why("timeout", Transient(f"{place} took no connection within {seconds:g} s")) from error
    except TimeoutError as error:
        raise _why(
            "timeout", Transient(f"{place} gave no complete answer within {settings.timeout_seconds:g} s")
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        _translate(error, place)


async def _body(response: aiohttp.ClientResponse, place: str, limit: int) -> bytes:
    packed = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        packed += chunk
        if len(packed) > limit:
            raise _too_long(place, limit)
    coding = response.headers.get(hdrs.CONTENT_ENCODING, "")
    if len(packed) <= _CHUNK_BYTES:
        return _unpacked(bytes(packed), coding, limit, place)
    return await asyncio.to_thread(_unpacked, bytes(packed), coding, limit, place)


def _too_long(place: str, limit: int) -> Permanent:
    return _why("too_large", Permanent(f"{place} sends more than {limit} bytes (feed.max_bytes)"))


def _unpacked(body: bytes, coding: str, limit: int, place: str) -> bytes:
    """The body without its content coding (gzip, deflate or none).

    No more than `limit` bytes are ever unpacked: a small body can't unfold into all memory.
    """
    match coding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            window = zlib.MAX_WBITS | 32  # or zlib
        case "deflate":
            # It should come in a zlib wrapper, but some servers leave that out (RFC 9110, 8.4.1.2).
            window = zlib.MAX_WBITS if body[:1] and body[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
        case other:
            raise _why(
                "body", Transient(f"{place}: the body has the content encoding {other!r}, which was not asked for")
            )
    data = b""
    for _ in range(_MAX_MEMBERS):
        inflater = zlib.decompressobj(window)
        try:
            data += inflater.decompress(body, limit + 1 - len(data))
        except zlib.error as error:
            raise _why("body", Transient(f"{place}: the body can't be unpacked ({error})")) from error
        if len(data) > limit:
            raise _too_long(place, limit)
        if not inflater.eof:
            raise _why("body", Transient(f"{place}: the packed body ends too early"))
        # gzip allows several members in a row; what else follows the last one is padding
        body = inflater.unused_data
        if window < 16 or not body.startswith(_GZIP_MAGIC):
            return data
    raise Permanent(f"{place}: the packed body has more than {_MAX_MEMBERS} parts")


def _refuse(response: aiohttp.ClientResponse, place: str) -> NoReturn:
    status = response.status
    message = f"{place} answers {status} {response.reason or ''}".rstrip()
    if status in _WORTH_A_RETRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait = retry_after_seconds(response.headers.get(hdrs.RETRY_AFTER), dt.datetime.now(UTC))
        seconds = None if wait is None else min(wait, LONGEST_REQUESTED_WAIT_SECONDS)
        raise _why("http_status", Transient(message, retry_after_seconds=seconds), status)
    raise _why("http_status", Permanent(message), status)


def _translate(error: aiohttp.ClientError | OSError, place: str) -> NoReturn:
    match error:
        case aiohttp.TooManyRedirects():
            raise _why("redirect", Permanent(f"{place} redirects more than {MAX_REDIRECTS} times")) from error
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            raise _why("redirect", Permanent(f"{place} leads to an address that can't be fetched")) from error
        case aiohttp.ClientConnectorCertificateError():
            raise _why("certificate", Permanent(f"{place} has no valid certificate: {error}")) from error
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or error.os_error
            raise _why("connect", Transient(f"cannot connect to {error.host}:{error.port} ({reason})")) from error
        case aiohttp.ClientPayloadError():
            raise _why("body", Transient(f"{place} sent a broken or incomplete body")) from error
        case aiohttp.ClientResponseError():  # its text has the whole URL
            raise _why("body", Transient(f"{place} sent what is no HTTP answer ({error.message})")) from error
        case _:
            raise _why(
                "connection", Transient(f"{place} broke the connection ({str(error) or type(error).__name__})")
            ) from error


def _why(reason: str, error: Failure, status: int | None = None) -> Failure:
    """The error with what a record of it tells in a word."""
    error.reason, error.status = reason, status
    return error


def _server_time(headers: Mapping[str, str]) -> dt.datetime | None:
    """The time of the server that made the answer: its `Date`, and since then the `Age` that caches tell."""
    try:
        at = parsedate_to_datetime(headers[hdrs.DATE])
        return (at if at.tzinfo else at.replace(tzinfo=UTC)) + dt.timedelta(seconds=int(headers.get(hdrs.AGE) or 0))
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _plain(header: str | None) -> str:
    """A header that is fit to be kept and sent again, else nothing."""
    return header if header and header.isascii() and header.isprintable() else ""
