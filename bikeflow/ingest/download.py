"""One HTTP download of the feed: conditional, bounded in time, size and redirects; errors become ours."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NoReturn

import aiohttp
from aiohttp import hdrs

from bikeflow import __version__
from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.model import UTC
from bikeflow.feeds.base import Answer
from bikeflow.ingest.place import public_url
from bikeflow.ingest.unpack import CHUNK_BYTES, BadEncoding, Unpacker
from bikeflow.runtime.retry import LONGEST_REQUESTED_WAIT_SECONDS, retry_after_seconds
from bikeflow.settings.sections import FeedSettings

USER_AGENT = f"bikeflow/{__version__} (archives a public bike-share feed)"
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
_WORTH_A_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class Downloader:
    """Asks the feed's server, through one session for the process's life."""

    def __init__(self, session: aiohttp.ClientSession, settings: FeedSettings) -> None:
        self._session = session
        self._settings = settings

    async def get(self, url: str, validators: tuple[str, str] | None) -> Answer:
        """Download a document unless it still has these validators, its ETag and Last-Modified.

        Raises `Transient` for what may pass (timeouts, broken connections and bodies, 5xx, 429), else `Permanent`.
        """
        etag, last_modified = validators or ("", "")
        headers = {hdrs.IF_NONE_MATCH: etag, hdrs.IF_MODIFIED_SINCE: last_modified}
        conditions = {name: value for name, value in headers.items() if value}
        place, asked_at = public_url(url), time.monotonic()
        try:
            async with self._session.get(url, headers=conditions, max_redirects=MAX_REDIRECTS) as response:
                return await self._answer(response, place, asked_at, conditional=bool(conditions))
        except TimeoutError as error:
            seconds = self._settings.timeout_seconds
            raise Transient(f"{place} gave no complete answer within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            _translate(error, place)

    async def _answer(
        self, response: aiohttp.ClientResponse, place: str, asked_at: float, *, conditional: bool
    ) -> Answer:
        status = response.status
        body = None
        if status == HTTPStatus.OK:
            body = await self._body(response, place)
        elif status != HTTPStatus.NOT_MODIFIED or not conditional:
            _refuse(response, place)
        return Answer(
            status=status,
            body=body,
            content_type=_plain(response.headers.get(hdrs.CONTENT_TYPE)),
            charset=response.charset,
            etag=_plain(response.headers.get(hdrs.ETAG)),
            last_modified=_plain(response.headers.get(hdrs.LAST_MODIFIED)),
            asked_at=asked_at,
        )

    async def _body(self, response: aiohttp.ClientResponse, place: str) -> bytes:
        limit = self._settings.max_bytes
        body = bytearray()
        try:
            unpacker = Unpacker(response.headers.get(hdrs.CONTENT_ENCODING, ""))
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                for piece in unpacker.feed(chunk):
                    body += piece
                    if len(body) > limit:
                        raise Permanent(f"{place} sends more than {limit} bytes (feed.max_bytes)")
            unpacker.finish()
        except BadEncoding as error:
            raise Transient(f"{place}: {error}") from error
        return bytes(body)


def _refuse(response: aiohttp.ClientResponse, place: str) -> NoReturn:
    status = response.status
    message = f"{place} answers {status} {response.reason or ''}".rstrip()
    if status in _WORTH_A_RETRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait = retry_after_seconds(response.headers.get(hdrs.RETRY_AFTER), dt.datetime.now(UTC))
        raise Transient(
            message, retry_after_seconds=None if wait is None else min(wait, LONGEST_REQUESTED_WAIT_SECONDS)
        )
    raise Permanent(message)


def _translate(error: aiohttp.ClientError | OSError, place: str) -> NoReturn:
    match error:
        case aiohttp.TooManyRedirects():
            raise Permanent(f"{place} redirects more than {MAX_REDIRECTS} times") from error
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            raise Permanent(f"{place} leads to an address that can't be fetched: {error}") from error
        case aiohttp.ClientConnectorCertificateError():
            raise Permanent(f"{place} has no valid certificate: {error}") from error
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or error.os_error
            raise Transient(f"cannot connect to {error.host}:{error.port} ({reason})") from error
        case aiohttp.ClientPayloadError():
            raise Transient(f"{place} sent a broken or incomplete body") from error
        case _:
            raise Transient(f"{place} broke the connection ({str(error) or type(error).__name__})") from error


@asynccontextmanager
async def open_downloader(settings: FeedSettings) -> AsyncIterator[Downloader]:
    """A downloader whose connections close with the context."""
    total = settings.timeout_seconds
    async with aiohttp.ClientSession(
        headers={hdrs.USER_AGENT: USER_AGENT, hdrs.ACCEPT_ENCODING: "gzip, deflate"},
        timeout=aiohttp.ClientTimeout(
            total=total, connect=min(CONNECT_SECONDS, total), sock_read=total, ceil_threshold=float("inf")
        ),
        # aiohttp takes a gzip body that ends too early for a whole one, so `Unpacker` does its work.
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield Downloader(session, settings)


def _plain(header: str | None) -> str:
    """A header that is fit to be kept and sent again, else nothing."""
    return header if header and header.isascii() and header.isprintable() else ""
