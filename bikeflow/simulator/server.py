"""Serves a feed's document over HTTP, as a well-behaved upstream does: conditional requests, gzip, loopback only."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import ETag, web

from bikeflow.simulator.chance import draws

PATH = "/feed.txt"
_SECOND = dt.timedelta(seconds=1)


def utc_now() -> dt.datetime:
    """The time now, in UTC."""
    return dt.datetime.now(dt.UTC)


@asynccontextmanager
async def serve_feed(
    document: Callable[[dt.datetime], str],
    *,
    port: int = 0,
    clock: Callable[[], dt.datetime] = utc_now,
    repeats: float = 0,
) -> AsyncIterator[str]:
    """Serve a feed on 127.0.0.1 (port 0 picks a free one) while the context lasts; gives its URL.

    `document` says what the feed tells at a UTC time, such as `City.snapshot`. The answer is that of the clock's whole
    second: within it who asks again gets 304 or a duplicate. In the share `repeats` of the seconds the document of the
    second before is served once more, as a feed does that hangs.
    """

    async def answer(request: web.Request) -> web.Response:
        modified = clock().replace(microsecond=0)
        while draws(0, "repeated", int(modified.timestamp()))[0] < repeats:
            modified -= _SECOND
        body = document(modified).encode()
        # Weak, because the plain and the gzipped answer share it.
        etag = ETag(hashlib.sha256(body).hexdigest()[:32], is_weak=True)
        if _is_known(request, etag, modified):
            response = web.Response(status=304)
        else:
            response = web.Response(body=body, content_type="text/plain", charset="utf-8")
            if "gzip" in request.headers.get("Accept-Encoding", ""):
                response.enable_compression(web.ContentCoding.gzip)
        response.etag = etag
        response.last_modified = modified
        response.headers["Vary"] = "Accept-Encoding"
        return response

    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{site.port}{PATH}"
    finally:
        await runner.cleanup()


def _is_known(request: web.Request, etag: ETag, modified: dt.datetime) -> bool:
    """Whether the client already has this document; an ETag it sends counts for more than a date (RFC 9110, 13.2.2)."""
    if request.if_none_match is not None:
        return any(known.value in (etag.value, "*") for known in request.if_none_match)
    since = request.if_modified_since
    return since is not None and modified <= since
