"""Many systems in one process: what they share, and how they take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from bikeflow.service.lane import turns
from bikeflow.service.pipeline import open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, SystemSettings
from tests.support.lines import raw_file, station
from tests.support.service import running


@dataclass
class Host:
    """A host of many systems' feeds, and how many requests it had at a time."""

    url: str = ""
    at_work: int = 0
    most: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer after a moment, so that requests overlap."""
        self.asked[request.path] += 1
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        await asyncio.sleep(0.05)
        self.at_work -= 1
        return web.Response(text=raw_file(station(1, name=request.path.replace("/", ""))))


@asynccontextmanager
async def a_host() -> AsyncIterator[Host]:
    host, app = Host(), web.Application()
    app.router.add_get("/{tail:.*}", host.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host.url = f"http://127.0.0.1:{site.port}"
        yield host
    finally:
        await runner.cleanup()


async def test_systems_of_one_host_share_its_connections(tmp_path: Path) -> None:
    async with a_host() as host:
        tables = tuple(SystemSettings(id=f"s{number}", url=f"{host.url}/{number}") for number in range(12))
        settings = Settings(data_dir=tmp_path, systems=tables, feed=FeedSettings(connections_per_host=3))
        async with open_pipeline(settings) as pipeline:
            outcomes = await asyncio.gather(*(lane.fetcher.fetch_once() for lane in pipeline.lanes.values()))
        assert {outcome.outcome for outcome in outcomes} == {"stored"}
        assert host.asked.total() == 12 and host.most <= 3


async def test_a_hundred_systems_start_one_after_the_other_and_are_all_published(tmp_path: Path) -> None:
    async with a_host() as host:
        systems = [{"id": f"s{number}", "url": f"{host.url}/{number}", "interval_seconds": 60} for number in range(100)]
        config = tmp_path / "config.toml"
        async with running(tmp_path / "data", "", config=config, settings={"systems": systems}) as service:
            await service.sees("SELECT count(DISTINCT system_id) FROM analytics.history", 100)
            assert host.most <= 8
            assert await service.stop() == 0, service.log()[-3000:]
            assert "level=error" not in service.log() and "level=warning" not in service.log()


@pytest.mark.parametrize(("systems", "sealed_minutes"), [(1, 60), (20, 62), (1500, 210), (10_000, 420)])
def test_fetches_lie_within_an_interval_and_sealing_within_hours(systems: int, sealed_minutes: float) -> None:
    tables = tuple(SystemSettings(id=f"s{number}", url="http://feed.example/") for number in range(systems))
    settings = Settings(systems=tables)
    (first, sealed), (last, sealed_last) = (turns(settings, settings.all_systems[place]) for place in (0, -1))
    assert (first.first_seconds, first.ticks_seconds, sealed) == (0, 0, 60)
    assert last.first_seconds <= last.ticks_seconds < 60 and round(sealed_last) == sealed_minutes
