"""A real HTTP server on loopback whose answers a test scripts, one after the other; the last one repeats."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDictProxy

PATH = "/feed.txt"


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    `cut` ends the connection after so many bytes of the body, `drip_seconds` is the pause after each byte, and
    `wait_seconds` the one before the answer begins.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drip_seconds: float = 0
    wait_seconds: float = 0


class FeedServer:
    """What a test sees of the server: where it is, what it was asked, and what it will answer."""

    def __init__(self) -> None:
        self.url = ""
        self.script: list[Reply] = []
        self.requests: list[CIMultiDictProxy[str]] = []
        self.asked = asyncio.Event()

    def answers(self, *replies: Reply) -> None:
        """From now on answer with these."""
        self.script = list(replies)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request by the script."""
        self.requests.append(request.headers)
        self.asked.set()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await asyncio.sleep(reply.wait_seconds)
        if reply.cut is None and not reply.drip_seconds:
            return web.Response(body=reply.body, status=reply.status, headers=reply.headers)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_length = len(reply.body)
        await response.prepare(request)
        for byte in reply.body[: reply.cut]:
            await response.write(bytes([byte]))
            await asyncio.sleep(reply.drip_seconds)
        if reply.cut is not None:
            assert request.transport is not None
            request.transport.close()
        return response


@asynccontextmanager
async def serve() -> AsyncIterator[FeedServer]:
    """A server on a free port of 127.0.0.1, closed with the context."""
    server = FeedServer()
    app = web.Application()
    app.router.add_get("/{tail:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{site.port}{PATH}"
        yield server
    finally:
        await runner.cleanup()


def document(text: str, *, etag: str = "") -> Reply:
    """A feed document as a good server sends it."""
    headers = {"Content-Type": "text/plain; charset=utf-8"} | ({"ETag": etag} if etag else {})
    return Reply(text.encode(), headers=headers)


def gzipped(data: bytes, *, cut: int | None = None) -> Reply:
    """The same packed with gzip; `cut` leaves out the end although the HTTP answer is complete."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
    return Reply(gzip.compress(data)[:cut], headers=headers)


def sha256(text: str) -> str:
    """The hash of a stored snapshot."""
    return hashlib.sha256(text.encode()).hexdigest()
