"""A real local webhook that alerts are sent to: it keeps what it was sent, refuses, or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Webhook:
    """What a test sees of it; `status` is answered, `hangs` makes it never answer."""

    def __init__(self) -> None:
        self.host = ""
        self.messages: list[dict[str, Any]] = []
        self.asked = 0
        self.status = 200
        self.hangs = False

    def url(self, path: str = "hook") -> str:
        """Apprise's URL for it."""
        return f"json://{self.host}/{path}"

    async def handle(self, request: web.Request) -> web.Response:
        """Take one message."""
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3_600)
        if self.status == web.HTTPOk.status_code:
            self.messages.append(await request.json())
        return web.Response(status=self.status)

    def titles(self) -> list[str]:
        """The titles so far, without the host's name."""
        return [message["title"].partition(": ")[2] for message in self.messages]


@asynccontextmanager
async def listening() -> AsyncIterator[Webhook]:
    """A webhook on a free port of 127.0.0.1."""
    hook = Webhook()
    app = web.Application()
    app.router.add_post("/{tail:.*}", hook.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hook.host = f"127.0.0.1:{site.port}"
        yield hook
    finally:
        await runner.cleanup()
