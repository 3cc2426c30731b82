"""The HTTP server: where it listens, what it answers to whom, and how others find it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from bikeflow.core.errors import Permanent
from bikeflow.http.client import ADDRESS_FILE
from bikeflow.http.connections import HEADERS, Connections
from bikeflow.http.hosts import only_known_hosts
from bikeflow.runtime.files import write_whole
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import HttpSettings

_GRACE_SECONDS = 1.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what others bind to, not what we do
log = get_logger()


@asynccontextmanager
async def serving(settings: HttpSettings, app: web.Application, *, anywhere: bool) -> AsyncIterator[str | None]:
    """Serve `app` while the context lasts; gives its URL, or None where nothing is to be served.

    A port that is taken is replaced by a free one where `anywhere` will do. Raises `Permanent` where the address can't
    be used.
    """
    if settings.address is None:
        yield None
        return
    connections = Connections()
    app.middlewares.extend([_errors_as_json, connections.paced, only_known_hosts(settings)])
    app.on_response_prepare.append(_secure)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    connections.server = runner.server
    listener: asyncio.Server | None = None
    try:
        listener, url = await _listen(connections, *settings.address, anywhere=anywhere)
        log.info("http_started", url=url)
        yield url
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()


def announce(url: str | None, data_dir: Path) -> None:
    """Write the service's URL to `data_dir`/http.address, where clients look for it; None takes the file away."""
    file = data_dir / ADDRESS_FILE
    try:
        if url is None:
            file.unlink(missing_ok=True)
        else:
            write_whole(file, f"{url}\n".encode())
    except OSError as error:  # a client that finds an old address gets no answer there
        log.warning("http_address_not_written", file=str(file), error=error.strerror)


async def _listen(connections: Connections, host: str, port: int, *, anywhere: bool) -> tuple[asyncio.Server, str]:
    try:
        listener = await asyncio.get_running_loop().create_server(connections, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port and anywhere:
            # A busy port must not cost a snapshot: the pipeline runs, and says where its pages are instead.
            log.warning("http_port_busy", wanted=f"{host}:{port}", hint="serving on a free port; set http.listen")
            return await _listen(connections, host, 0, anywhere=False)
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Permanent(
            f"cannot serve HTTP on {host}:{port}: {reason}; set http.listen to another address, "
            'to port 0 for any free one, or to "" for none'
        ) from error
    name = _ANY.get(host, host)
    port = listener.sockets[0].getsockname()[1]
    return listener, f"http://{f'[{name}]' if ':' in name else name}:{port}/"


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response({"error": error.text or error.reason}, status=error.status, headers=headers)


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = HEADERS["Server"]  # aiohttp has put in its own
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
