"""A bulkhead between the clients of the pages and the pipeline, which share a process: its descriptors and its time.

Idle connections shut nobody out: when there are too many, the oldest idle one is closed. Requests start at a limited
rate, so that a flood of them waits and the pipeline does not.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

MAX_CONNECTIONS = 256
SHARE_OF_DESCRIPTORS = 4
"""Clients hold no more than one descriptor in so many: all others are the pipeline's."""
REQUESTS_PER_SECOND = 250.0
"""An answer takes the loop some 0.4 ms."""
BURST = 25
IDLE_SECONDS = 30.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "bikeflow",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer, where it has no others of its own."""
_BUSY = (
    f"HTTP/1.1 503 Service Unavailable\r\nServer: {HEADERS['Server']}\r\nRetry-After: 1\r\n"
    "Connection: close\r\nContent-Length: 0\r\n\r\n"
).encode()


class Connections:
    """Makes the protocol of each connection to `server`, and knows which have a request under way."""

    def __init__(self) -> None:
        self.server: web.Server | None = None
        self._open: dict[_Connection, None] = {}
        """Oldest first."""
        self._asking: set[asyncio.BaseProtocol] = set()
        self._next_at = 0.0

    def __call__(self) -> asyncio.Protocol:
        """A protocol for a connection that is being opened."""
        if self.server is None or (len(self._open) >= _limit() and not self._make_room()):
            return _Refusal()
        connection = _Connection(self.server, self._open)
        self._open[connection] = None
        return connection

    def _make_room(self) -> bool:
        idle = (one for one in self._open if one.transport is not None and one not in self._asking)
        for one in idle:
            del self._open[one]
            one.force_close()
            return True
        return False

    @web.middleware
    async def paced(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the request begin when it is its turn."""
        self._asking.add(request.protocol)
        try:
            await self._turn()
            return await handler(request)
        finally:
            self._asking.discard(request.protocol)

    async def _turn(self) -> None:
        now, gap = asyncio.get_running_loop().time(), 1 / REQUESTS_PER_SECOND
        self._next_at = max(self._next_at, now - BURST * gap) + gap
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)


def _limit() -> int:
    return max(min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE_OF_DESCRIPTORS), 1)


class _Connection(RequestHandler):
    """Leaves the list of those that are `open` by itself, and answers what is no HTTP in our own name."""

    __slots__ = ("_others",)

    def __init__(self, server: web.Server, others: dict[_Connection, None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # type: ignore[arg-type]
        )
        self._others = others

    def connection_lost(self, exc: BaseException | None) -> None:
        self._others.pop(self, None)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # else it is the client's error, and not worth a line
            super().handle_error(request, status, exc, message)
        answer = web.json_response({"error": HTTPStatus(status).phrase}, status=status, headers=HEADERS)
        answer.force_close()
        return answer


class _Refusal(asyncio.Protocol):
    """All connections are busy: says so, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_BUSY)
        transport.close()
