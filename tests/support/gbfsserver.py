"""A real HTTP server on loopback that serves a GBFS recording, as good or bad as a test wants it to be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.gbfs import documents


@dataclass(frozen=True)
class Asked:
    """One request: for which document, when (monotonic), under which ETag, and the status of the answer."""

    name: str
    at: float
    etag: str
    status: int


@dataclass
class GbfsServer:
    """What a test sees of the server. It lists its own addresses; each document has an ETag, and answers 304 to it.

    `status` and `delay_seconds` change how documents are answered, by name; `redirects` sends a name's path elsewhere.
    """

    bodies: dict[str, bytes]
    root: str = ""
    status: dict[str, int] = field(default_factory=dict)
    delay_seconds: dict[str, float] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The auto-discovery document."""
        return f"{self.root}/gbfs.json"

    def count(self, name: str) -> int:
        """How often a document was asked for."""
        return sum(one.name == name for one in self.asked)

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a document's content."""
        document = json.loads(self.bodies[name])
        change(document)
        self.bodies[name] = json.dumps(document).encode()

    def set_ttl(self, seconds: float, *names: str) -> None:
        """Set the `ttl` of some documents, or of all."""
        for name in names or self.bodies:
            self.edit(name, lambda document: document.update(ttl=seconds))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        name, at = request.path.rpartition("/")[2].removesuffix(".json"), time.monotonic()
        etag = request.headers.get("If-None-Match", "")
        await asyncio.sleep(self.delay_seconds.get(name, 0))
        body = self._listing() if name == "gbfs" and "gbfs" in self.bodies else self.bodies.get(name)
        status = self.status.get(name, 200 if body is not None else 404)
        current = f'"{hashlib.sha256(body or b"").hexdigest()[:16]}"'
        if status == 200 and name in self.redirects and request.path != self.redirects[name]:
            status = 302
        elif status == 200 and etag == current:
            status = 304
        self.asked.append(Asked(name, at, etag, status))
        headers = {"ETag": current} if status in (200, 304) else {}
        if status == 302:
            headers["Location"] = self.redirects[name]
        return web.Response(
            body=body if status == 200 else b"", status=status, headers=headers, content_type="application/json"
        )

    def _listing(self) -> bytes:
        """The auto-discovery document with this server's own addresses."""
        document = json.loads(self.bodies["gbfs"])
        for part in _parts(document["data"]):
            for feed in part["feeds"]:
                name = feed["name"].removesuffix(".json")
                feed["url"] = f"{self.root}/{name}.json"
        return json.dumps(document).encode()


def _parts(data: Mapping[str, Any]) -> list[Any]:
    return [data] if "feeds" in data else list(data.values())


def discovery(names: list[str]) -> bytes:
    """An auto-discovery document of a recording that has none."""
    feeds = [{"name": name, "url": ""} for name in names]
    return json.dumps({"last_updated": 0, "ttl": 0, "version": "2.3", "data": {"en": {"feeds": feeds}}}).encode()


@asynccontextmanager
async def serve_gbfs(folder: Path) -> AsyncIterator[GbfsServer]:
    """Serve a recording on a free port of 127.0.0.1, closed with the context."""
    bodies = documents(folder)
    bodies.setdefault("gbfs", discovery(sorted(bodies)))
    server = GbfsServer(bodies)
    app = web.Application()
    app.router.add_get("/{tail:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.root = f"http://127.0.0.1:{site.port}"
        yield server
    finally:
        await runner.cleanup()
