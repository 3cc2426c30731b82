"""A reload adds, changes and removes GBFS systems; the others do not notice."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.service.test_gbfs import verified
from tests.support import feedserver
from tests.support.feedserver import Reply
from tests.support.gbfs import HARBOUR, HILL
from tests.support.gbfsserver import GbfsServer, serve_gbfs
from tests.support.service import Service, configure, running
from tests.support.watch import Watch

pytestmark = pytest.mark.timeout(240)
LONG = 3600
COUNTED = 'bikeflow_fetches_total{{outcome="stored",system="{}"}}'
HANGS = Reply(wait_seconds=600)
SNAPSHOTS = "SELECT count(DISTINCT s3_source_key) FROM analytics.history WHERE system_id = '{}'"


def table(system_id: str, url: str, **values: object) -> dict[str, object]:
    return {"id": system_id, "format": "gbfs", "url": url, "interval_seconds": 1, **values}


class Reloads:
    """A service whose systems are changed while it runs."""

    def __init__(self, service: Service, config: Path, values: Mapping[str, object]) -> None:
        self.service, self._config, self._values = service, config, values
        self._count = 0

    async def to(self, *tables: Mapping[str, object]) -> str:
        """Configure exactly these systems; gives the log line of the reload."""
        configure(self._config, {**self._values, "systems": tables})
        self.service.process.send_signal(signal.SIGHUP)
        self._count += 1
        return (await self.service.told("reloaded", self._count))[-1]

    async def polled(self, server: GbfsServer, more: int = 3) -> None:
        """Wait until a system's status was asked for some more times."""
        wanted = server.count("station_status") + more
        await self.service.until(lambda: server.count("station_status") >= wanted, f"{more} more polls")


async def a_system(stack: AsyncExitStack, folder: Path) -> GbfsServer:
    """A server whose status may be asked for at any time, and all else once an hour."""
    server = await stack.enter_async_context(serve_gbfs(folder))
    server.set_ttl(LONG)
    server.set_ttl(0, *(name for name in server.bodies if name.endswith("status")))
    return server


async def test_systems_that_stay_do_not_notice_a_reload(tmp_path: Path) -> None:
    data_dir, config = tmp_path / "data", tmp_path / "config.toml"
    values: dict[str, object] = {"data_dir": data_dir, "watcher.poll_seconds": 0.5, "http.listen": "127.0.0.1:0"}
    async with AsyncExitStack() as stack:
        stays, changes, comes, moved = [await a_system(stack, folder) for folder in (HARBOUR, HILL, HARBOUR, HILL)]
        first, second = table("stays", stays.url), table("changes", changes.url)
        service = await stack.enter_async_context(
            running(data_dir, "", config=config, settings={**values, "systems": [first, second]})
        )
        reloads = Reloads(service, config, values)
        await reloads.polled(stays)
        await reloads.polled(changes)
        await reloads.to(first, second, table("comes", comes.url))
        await reloads.polled(comes)
        async with ClientSession(await service.url()) as session:
            assert "refreshing" not in await Watch(service, session).faults()
            assert await Watch(service, session).metric(COUNTED.format("comes")) >= 1
        await reloads.to(first, second | {"interval_seconds": 2}, table("comes", comes.url))
        await reloads.polled(changes)
        await reloads.to(first, table("changes", moved.url), table("comes", comes.url))
        await reloads.polled(moved)
        await reloads.to(first, table("changes", moved.url))
        asked, count = len(comes.asked), len(changes.asked)
        await reloads.polled(stays)
        async with ClientSession(await service.url()) as session, session.get("/metrics") as answer:
            text = await answer.text()
        assert 'system="stays"' in text and 'system="comes"' not in text
        assert (len(comes.asked), len(changes.asked)) == (asked, count)
        stays.edit("station_status", lambda document: document["data"]["stations"][0].update(num_docks_available=1))
        await service.sees(SNAPSHOTS.format("stays"), 2)
        assert await service.stop() == 0, service.log()[-3000:]
        report = await verified(config)
        assert report["proved"] and not report["findings"], (report["proved"], report["findings"])
        # It goes on with the documents that it has: not even an address was asked for again.
        for name in ("gbfs", "system_information", "station_information", "vehicle_types"):
            assert stays.count(name) == 1, name
        assert "level=error" not in service.log() and "level=warning" not in service.log()


async def test_a_system_that_hangs_does_not_hold_up_the_others_at_a_reload(tmp_path: Path) -> None:
    data_dir, config = tmp_path / "data", tmp_path / "config.toml"
    values: dict[str, object] = {"data_dir": data_dir, "watcher.poll_seconds": 0.5, "http.listen": "127.0.0.1:0"}
    async with AsyncExitStack() as stack:
        good, hanging = await a_system(stack, HARBOUR), await stack.enter_async_context(feedserver.serve())
        hanging.answers(HANGS)
        tables = [table("good", good.url), table("hangs", hanging.url, timeout_seconds=600)]
        service = await stack.enter_async_context(
            running(data_dir, "", config=config, settings={**values, "systems": tables})
        )
        reloads = Reloads(service, config, values)
        await reloads.polled(good)
        await service.until(hanging.asked.is_set, "a request that hangs")
        # The request would take ten minutes more: that the reload comes to its end shows that nobody waits for it.
        await reloads.to(tables[0] | {"name": "Renamed"}, tables[1])
        await reloads.polled(good)
        await service.until(lambda: len(hanging.requests) >= 2, "a new request in the place of the one cut short")
        assert await service.stop() == 0, service.log()[-3000:]
    report = await verified(config)
    assert report["proved"] and not report["findings"], (report["proved"], report["findings"])
