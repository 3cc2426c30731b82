"""A GBFS system that does its worst among one that is well: the other is polled on, and loses nothing."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from bikeflow.settings.sections import MiB
from tests.support.gbfs import HARBOUR
from tests.support.gbfsserver import GbfsServer, serve_gbfs
from tests.support.rounds import rounds
from tests.support.service import Service, running
from tests.support.watch import Watch

pytestmark = pytest.mark.timeout(300)
POLLS = rounds(5, 20)
STATIONS = rounds(120_000, 1_000_000)
HUGE_BYTES = rounds(20, 300) * MiB
SNAPSHOTS = "SELECT count(DISTINCT s3_source_key) FROM analytics.history WHERE system_id = '{}'"
Answer = Callable[["Hostile", web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Hostile:
    """A server whose `station_status.json` is `answer`."""

    answer: Answer
    root: str = ""
    asked: int = 0
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/gbfs.json":
            feeds = [{"name": "station_status", "url": f"{self.root}/station_status.json"}]
            return web.json_response({"last_updated": 0, "ttl": 0, "version": "2.3", "data": {"en": {"feeds": feeds}}})
        self.asked += 1
        return await self.answer(self, request)


async def hangs(_hostile: Hostile, _request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(600)
    return web.Response()


async def drips(_hostile: Hostile, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b"{")
        await asyncio.sleep(0.2)
    return response


async def sends_too_much(_hostile: Hostile, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(HUGE_BYTES // MiB):
        await response.write(b" " * MiB)
    return response


async def sends_a_million_members(_hostile: Hostile, _request: web.Request) -> web.StreamResponse:
    """A body of gzip members without content: to take off one after the other copies what is left each time."""
    body = gzip.compress(b"", mtime=0) * 400_000
    return web.Response(body=body, headers={"Content-Encoding": "gzip"}, content_type="application/json")


async def redirects(_hostile: Hostile, request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"{request.path}x" if len(request.path) < 500 else "/station_status.json")


def status(stations: int, bikes: int) -> web.Response:
    one = {"num_bikes_available": bikes, "num_docks_available": 1, "is_installed": True, "last_reported": 1_700_000_000}
    rest = json.dumps(one)[1:]
    body = ", ".join(f'{{"station_id": "{number}", {rest}' for number in range(stations))
    text = f'{{"last_updated": {bikes}, "ttl": 0, "version": "2.3", "data": {{"stations": [{body}]}}}}'
    return web.Response(body=gzip.compress(text.encode(), 1), headers={"Content-Encoding": "gzip"})


async def has_a_million_stations(hostile: Hostile, _request: web.Request) -> web.StreamResponse:
    return await asyncio.to_thread(status, STATIONS, next(hostile.numbers))


async def floods(hostile: Hostile, _request: web.Request) -> web.StreamResponse:
    return await asyncio.to_thread(status, 5_000, next(hostile.numbers))


HOSTILE: dict[str, tuple[Answer, str | None]] = {
    "hangs": (hangs, "gave no complete answer within 2 s"),
    "drips": (drips, "gave no complete answer within 2 s"),
    "sends too much": (sends_too_much, "sends more than 16777216 bytes"),
    "sends a million members": (sends_a_million_members, "has more than 1000 parts"),
    "redirects for ever": (redirects, "redirects more than 5 times"),
    "has a million stations": (
        has_a_million_stations,
        "records, more than 100,000" if STATIONS < 200_000 else "sends more than 16777216 bytes",
    ),
    "floods": (floods, None),
}
"""What it does, and what /readyz says of it (None: it is no fault)."""


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Hostile]:
    hostile, app = Hostile(answer), web.Application()
    app.router.add_get("/{tail:.*}", hostile.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hostile.root = f"http://127.0.0.1:{site.port}"
        yield hostile
    finally:
        await runner.cleanup()


async def told(service: Service, words: str) -> None:
    """Wait until readiness says so of the hostile system."""
    async with ClientSession(await service.url()) as session:
        watch = Watch(service, session)
        await watch.breaks("fetching", fetching=words)
        assert "hostile: " in (await watch.reasons())["fetching"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_system_does_not_hold_up_another(tmp_path: Path, name: str) -> None:
    answer, words = HOSTILE[name]
    config = tmp_path / "config.toml"
    async with serve_gbfs(HARBOUR) as good, serving(answer) as hostile:
        good.set_ttl(0)
        one = {"format": "gbfs", "interval_seconds": 1}
        systems = [
            {
                "id": "hostile",
                "url": f"{hostile.root}/gbfs.json",
                "timeout_seconds": 2 if name in ("hangs", "drips") else 60,
                **one,
            },
            {"id": "good", "url": good.url, **one},
        ]
        settings = {"systems": systems, "retry.initial_seconds": 0.1, "feed.breaker_failures": 1_000}
        async with running(tmp_path / "data", "", config=config, settings=settings) as service:
            if words is None:
                await service.until(lambda: hostile.asked >= 2, "requests to the hostile system")
            else:
                await told(service, words)
            await service.sees(SNAPSHOTS.format("good"), 1)
            for number in range(1, POLLS + 1):
                good.edit("station_status", partial(_set_bikes, number=number))
                asked = good.count("station_status") + 2
                await service.until(partial(_asked, good, asked), "two more polls of the good system")
            others = hostile.asked
            await service.until(lambda: hostile.asked > others, "that the hostile one is still asked")
            await service.sees(SNAPSHOTS.format("good"), POLLS + 1)
            assert await service.stop() == 0, service.log()[-3000:]
            assert "Traceback" not in service.log()


def _set_bikes(document: dict[str, Any], number: int) -> None:
    document["data"]["stations"][1]["num_bikes_available"] = 100 + number


def _asked(server: GbfsServer, times: int) -> bool:
    return server.count("station_status") >= times
