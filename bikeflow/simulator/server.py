"""Serves a feed's document over HTTP, as a well-behaved upstream does: conditional requests, gzip, loopback only."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import ETag, web

from bikeflow.simulator.chance import draws

# What the feed says at a UTC time, such as `City.snapshot`.
Document = Callable[[dt.datetime], str]
Clock = Callable[[], dt.datetime]

PATH = "/feed.txt"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def utc_now() -> dt.datetime:
    """The time now, in UTC."""
    return dt.datetime.now(dt.UTC)


def feed_app(
    document: Document, *, clock: Clock = utc_now, tick_seconds: float = 1, repeats: float = 0
) -> web.Application:
    """An application that answers `PATH` with the document of the clock's time, rounded down to a whole tick.

    Within a tick the answer stays the same, so that whoever asks faster than that gets 304 or a duplicate. In the share
    `repeats` of the ticks the document of the tick before is served once more, as a feed does that hangs.
    Last-Modified counts whole seconds; with a shorter tick only the ETag tells all documents apart.
    """
    tick = dt.timedelta(seconds=tick_seconds)

    async def answer(request: web.Request) -> web.Response:
        now = clock()
        modified = now - (now - _EPOCH) % tick
        while draws(0, "repeated", (modified - _EPOCH) // tick)[0] < repeats:
            modified -= tick
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
        response.last_modified = modified.replace(microsecond=0)
        response.headers["Vary"] = "Accept-Encoding"
        return response

    app = web.Application()
    app.router.add_get(PATH, answer)
    return app


@asynccontextmanager
async def serve_feed(
    document: Document, *, port: int = 0, clock: Clock = utc_now, tick_seconds: float = 1, repeats: float = 0
) -> AsyncIterator[str]:
    """Serve the document on 127.0.0.1 (port 0 picks a free one) while the context lasts; gives the feed's URL."""
    runner = web.AppRunner(feed_app(document, clock=clock, tick_seconds=tick_seconds, repeats=repeats), access_log=None)
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
    return since is not None and modified.replace(microsecond=0) <= since
