"""A small reverse proxy before a real S3 server that breaks requests as networks, gateways and servers do.

It hands signed requests on as they are (the host's name included), counts them, and lets the fault of the moment have
its way with those that it concerns.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.support.s3server import S3Server

_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Expect", "Date", "Server")
_RESET = struct.pack("ii", 1, 0)
SLOW_SECONDS = 0.3


@dataclass(frozen=True)
class Request:
    """A request that has arrived whole: `operation` is list, get, put, head or delete; `key` that of the object.

    For a listing, `key` is the prefix.
    """

    web: web.Request
    operation: str
    key: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the server behind has answered."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


Forward = Callable[[], Awaitable[Answer]]
Fault = Callable[[Request, Forward], Awaitable[web.StreamResponse]]
"""Answers a request in its own way; it may ask the real server, or not."""


class ChaosProxy:
    """What a test sees of it: where it is, what goes wrong, and what came through."""

    def __init__(self, server: S3Server, session: aiohttp.ClientSession) -> None:
        self.port = 0
        self.fault: Fault | None = None
        """What happens to the requests that are `concerned`; None: all go through."""
        self.concerned: Callable[[Request], bool] = everything
        self.hit = Counter[str]()
        """Requests that the present fault has had its way with, by operation."""
        self.passed = Counter[str]()
        """Requests that went through since the fault was over, those it still held on to included: `list <prefix>`,
        `put`, ..."""
        self.honours_conditions = False
        """Whether `If-None-Match: *` is kept to, as Ceph and AWS do, though the server behind does not know it."""
        self._putting = asyncio.Lock()
        self._server = server
        self._session = session
        self._client = server.client()

    @property
    def server(self) -> S3Server:
        """The server as it is reached through the proxy."""
        return replace(self._server, endpoint_url=f"http://127.0.0.1:{self.port}")

    def breaks(self, fault: Fault, concerned: Callable[[Request], bool] | None = None) -> None:
        """From now on this fault befalls the requests that it concerns, all by default."""
        self.hit.clear()
        self.fault, self.concerned = fault, concerned or everything

    def heals(self) -> None:
        """From now on all goes through; counts what does anew."""
        self.passed.clear()
        self.fault = None

    async def handle(self, received: web.Request) -> web.StreamResponse:
        """Serve one request."""
        request = _understood(received, await received.read())
        fault = self.fault
        if fault is not None and self.concerned(request):
            self.hit[request.operation] += 1
            try:
                return await fault(request, lambda: self._forward(request))
            finally:
                if self.fault is None:
                    self.passed.clear()
        if self.honours_conditions and "If-None-Match" in received.headers:
            return await self._put_new(request)
        answer = await self._forward(request)
        if answer.status < 400:
            self.passed[f"list {request.key}" if request.operation == "list" else request.operation] += 1
        return _whole(answer)

    async def _put_new(self, request: Request) -> web.StreamResponse:
        async with self._putting:
            url = URL(f"{self._server.endpoint_url}{request.web.raw_path}", encoded=True)
            found = self._client.list_objects_v2(Bucket=url.path.split("/")[1], Prefix=request.key)
            if found.get("Contents"):
                return await answering(412, "PreconditionFailed")(request, lambda: self._forward(request))
            return _whole(await self._forward(request))

    async def _forward(self, request: Request) -> Answer:
        headers = CIMultiDict(request.web.headers)
        for name in _HOP:
            if name != "Date":
                headers.popall(name, None)
        url = URL(f"{self._server.endpoint_url}{request.web.raw_path}", encoded=True)
        async with self._session.request(
            request.web.method, url, headers=headers, data=request.body or None, skip_auto_headers=("Content-Type",)
        ) as answer:
            return Answer(answer.status, CIMultiDict(answer.headers), await answer.read())


def everything(_request: Request) -> bool:
    """Whatever it is."""
    return True


def answering(status: int, code: str = "", **headers: str) -> Fault:
    """An error as S3 servers give it, or where there is no code, a gateway's page; the request has no effect."""

    async def fault(_request: Request, _forward: Forward) -> web.StreamResponse:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as ordered</Message></Error>"
        page = "<html><body>the gateway has no answer</body></html>"
        kind = "application/xml" if code else "text/html"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text if code else page, content_type=kind, headers=named)

    return fault


async def reset(request: Request, _forward: Forward) -> web.StreamResponse:
    """The connection is reset before anything happened."""
    return _torn(request)


async def reset_after_effect(request: Request, forward: Forward) -> web.StreamResponse:
    """The server has done what it was asked; the connection is reset instead of its answer."""
    await forward()
    return _torn(request)


async def half_close(request: Request, _forward: Forward) -> web.StreamResponse:
    """The server's side of the connection ends without an answer, while the other one stays open."""
    assert request.web.transport is not None
    request.web.transport.write_eof()
    await asyncio.sleep(SLOW_SECONDS)
    return _torn(request)


async def truncate(request: Request, forward: Forward) -> web.StreamResponse:
    """The answer's body ends half-way; where there is none, no answer comes through at all."""
    answer = await forward()
    if not answer.body:
        return _torn(request)
    response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer))
    response.content_length = len(answer.body)
    await response.prepare(request.web)
    await response.write(answer.body[: len(answer.body) // 2])
    return _torn(request)


async def flip(request: Request, forward: Forward) -> web.StreamResponse:
    """One bit of the answer's body is another one: neither its length nor the connection betrays it."""
    answer = await forward()
    body = bytearray(answer.body)
    if body and request.operation == "get":
        body[len(body) // 2] ^= 1
    return _whole(replace(answer, body=bytes(body)))


async def hang(request: Request, _forward: Forward) -> web.StreamResponse:
    """No answer ever comes; the client has to give up."""
    await asyncio.sleep(600)
    return _torn(request)


async def hang_after_effect(request: Request, forward: Forward) -> web.StreamResponse:
    """The server has done what it was asked, and no answer ever comes."""
    await forward()
    return await hang(request, forward)


async def delay(_request: Request, forward: Forward) -> web.StreamResponse:
    """A long way: the answer is late, but right."""
    await asyncio.sleep(SLOW_SECONDS)
    return _whole(await forward())


async def trickle(request: Request, forward: Forward) -> web.StreamResponse:
    """Little bandwidth: the answer comes in eight pieces, each a while after the other."""
    answer = await forward()
    if answer.status in {204, 304} or request.web.method == "HEAD":
        return _whole(answer)
    response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer))
    response.content_length = len(answer.body)
    await response.prepare(request.web)
    size = len(answer.body) // 8 + 1
    for start in range(0, len(answer.body), size):
        await asyncio.sleep(SLOW_SECONDS / 8)
        await response.write(answer.body[start : start + size])
    return response


def below(part: str, *operations: str) -> Callable[[Request], bool]:
    """Requests of these operations (all where none is given) for keys that contain `part`."""
    return lambda request: part in request.key and (not operations or request.operation in operations)


@asynccontextmanager
async def proxying(server: S3Server, port: int = 0) -> AsyncIterator[ChaosProxy]:
    """A proxy on a free port of 127.0.0.1 (or on this one) before an S3 server that speaks http."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        proxy = ChaosProxy(server, session)
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            proxy.port = site.port
            yield proxy
        finally:
            await runner.cleanup()


def _understood(received: web.Request, body: bytes) -> Request:
    key = unquote(received.rel_url.raw_path).lstrip("/").partition("/")[2]
    if received.method == "GET" and "list-type" in received.query:
        return Request(received, "list", received.query.get("prefix", ""), body)
    return Request(received, received.method.lower(), key, body)


def _end_to_end(answer: Answer) -> CIMultiDict[str]:
    headers = answer.headers.copy()
    for name in _HOP:
        headers.popall(name, None)
    return headers


def _whole(answer: Answer) -> web.Response:
    headers = _end_to_end(answer)
    if "Content-Length" in answer.headers:  # of a HEAD's answer, which has no body
        headers["Content-Length"] = answer.headers["Content-Length"]
    return web.Response(status=answer.status, headers=headers, body=answer.body or None)


def _torn(request: Request) -> web.StreamResponse:
    transport = request.web.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response()
