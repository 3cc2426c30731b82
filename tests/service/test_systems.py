"""Two systems in one process, with real feeds: what goes wrong in one ends at the edge of its lane."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from bikeflow.core.model import UTC
from bikeflow.ingest.spool import Spool
from bikeflow.service.pipeline import open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import SystemSettings
from tests.support import feedserver, oracle
from tests.support.feedserver import Reply
from tests.support.lines import raw_file, station
from tests.support.oracle import STATIONS, Oracle, local_lake
from tests.support.pipelines import whole_road
from tests.support.service import PATIENCE_SECONDS, Service, configure, running
from tests.support.watch import Watch

pytestmark = pytest.mark.timeout(180)
MAX_BYTES = 400_000
ROWS = "SELECT count(*) FROM analytics.history WHERE system_id = '{}'"


def table(system_id: str, url: str, **values: object) -> dict[str, object]:
    return {"id": system_id, "url": url, "prefix": f"lake/{system_id}/", **values}


@asynccontextmanager
async def at_work(data_dir: Path, *tables: Mapping[str, object]) -> AsyncIterator[Service]:
    """A service with these systems, `good` being the one that the older names show."""
    config, settings = data_dir.parent / "config.toml", {"systems": tables, "warehouse.wrm_system": "good"}
    async with running(data_dir, "http://127.0.0.1:9/", config=config, settings=settings) as service:
        yield service


@asynccontextmanager
async def watched(service: Service) -> AsyncIterator[Watch]:
    async with aiohttp.ClientSession(await service.url()) as session:
        yield Watch(service, session)


def promised(service: Service, system_id: str) -> set[str]:
    """Raw keys of a system of which the service has said that they are safe."""
    lines = [line for line in service.log().splitlines() if f"system={system_id} " in f"{line} "]
    return Oracle().promised("\n".join(lines))


async def published(service: Service, system_id: str, feed: Oracle) -> None:
    """Let the feed stand still until all that was fetched of it is published."""
    feed.frozen = True
    served = len(feed.served)
    await service.until(lambda: len(promised(service, system_id)) >= served, f"{served} snapshots of {system_id}")
    await service.sees(ROWS.format(system_id), served * STATIONS)


def lanes(lake: Mapping[str, bytes], system_id: str) -> dict[str, bytes]:
    """The objects of one system."""
    return {key: data for key, data in lake.items() if key.startswith(f"lake/{system_id}/")}


async def test_two_systems_share_a_process_and_nothing_else(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with oracle.serving() as good, oracle.serving() as other:
        async with at_work(data_dir, table("good", good.url), table("other", other.url)) as service:
            await service.until(lambda: min(len(good.served), len(other.served)) >= 4, "four snapshots of each")
            for system_id, feed in (("good", good), ("other", other)):
                await published(service, system_id, feed)
            async with watched(service) as watch:
                await watch.recovers()
            assert await service.stop() == 0, service.log()[-5000:]
            log = service.log()
        lake = local_lake(data_dir)
        assert lanes(lake, "good").keys() | lanes(lake, "other").keys() == {
            key for key in lake if not key.startswith("lake/good/duckdb/")
        }
        good.audit(lake, service.database, "\n".join(_of("good", log)), prefix="lake/good/").assert_exactly_once()
        other.audit(lake, None, "\n".join(_of("other", log)), prefix="lake/other/").assert_exactly_once()
        assert "level=error" not in log and "level=warning" not in log


def _of(system_id: str, log: str) -> Iterator[str]:
    """The lines that a log has of a system."""
    return (line for line in log.splitlines() if f"system={system_id} " in f"{line} ")


@dataclass(frozen=True)
class Trouble:
    """What a feed does, and what readiness says of it (None: it is no fault)."""

    replies: tuple[Reply, ...]
    reason: str | None
    settings: Mapping[str, object]


def large(number: int) -> Reply:
    """A new document of nearly `MAX_BYTES`, most of whose lines are rejected."""
    line = station(1, name=f"Plac {number}", bikes="-1")
    good = [station(n, bikes=str(number)) for n in range(2, 300)]
    return feedserver.document(raw_file(*good, *[line] * ((MAX_BYTES - 50_000) // (len(line) + 1))))


TROUBLES = {
    "hangs": Trouble((Reply(wait_seconds=600),), "gave no complete answer within 2 s", {"timeout_seconds": 2}),
    "drips": Trouble(
        (Reply(raw_file(station(1)).encode(), drip_seconds=1),), "gave no complete answer", {"timeout_seconds": 2}
    ),
    "fails": Trouble((Reply(status=500),), "answers 500", {}),
    "sends a page": Trouble((Reply(b"<html>no feed</html>"),), "not a feed document: the answer is an HTML page", {}),
    "sends too much": Trouble((Reply(b"x" * (MAX_BYTES + 1)),), "sends more than 400000 bytes", {}),
    "floods": Trouble(tuple(large(number) for number in range(20)), None, {}),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_system_in_trouble_does_not_touch_the_other_and_readiness_names_it(tmp_path: Path, name: str) -> None:
    trouble, data_dir = TROUBLES[name], tmp_path / "data"
    async with oracle.serving() as good, feedserver.serve() as bad:
        bad.answers(*trouble.replies)
        other = table("bad", bad.url, max_bytes=MAX_BYTES, **trouble.settings)
        async with at_work(data_dir, other, table("good", good.url)) as service, watched(service) as watch:
            await service.until(lambda: len(bad.requests) >= 1, "the first request to the feed in trouble")
            if trouble.reason is not None:
                await _until_told(service, watch, trouble.reason)
            began = len(good.served)
            await service.until(lambda: len(good.served) >= began + 6, "six more snapshots of the other feed")
            await published(service, "good", good)
            fetching = (await watch.reasons()).get("fetching", "")
            assert fetching.startswith("bad: ") if trouble.reason is not None else not fetching
            assert await service.stop() == 0, service.log()[-5000:]
        good.audit(
            local_lake(data_dir), data_dir / "analytics.duckdb", "\n".join(_of("good", service.log())), "lake/good/"
        ).assert_exactly_once()


async def _until_told(service: Service, watch: Watch, reason: str) -> None:
    """Wait until readiness gives this reason for the system in trouble."""
    for _ in range(int(PATIENCE_SECONDS / 0.1)):
        told = (await watch.reasons()).get("fetching", "")
        if reason in told:
            assert "bad: " in told
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{reason!r} is not told, but {told!r}\n{service.log()[-5000:]}")


async def test_a_system_whose_spool_is_full_loses_only_its_own_snapshots_and_readiness_names_it(tmp_path: Path) -> None:
    """The store takes nothing below the prefix of one system: something stands where its folder would be."""
    data_dir = tmp_path / "data"
    (data_dir / "lake/lake").mkdir(parents=True)
    (data_dir / "lake/lake/bad").write_text("in the way")
    big = itertools.count()
    async with oracle.serving() as good, feedserver.serve() as bad:
        bad.answers(*(large(next(big)) for _ in range(60)))
        other = table("bad", bad.url, spool_max_bytes=1_000_000)
        async with at_work(data_dir, other, table("good", good.url)) as service, watched(service) as watch:
            await _until_told(service, watch, "is full")
            assert (await watch.reasons())["storing"].startswith("bad: ")
            await service.until(lambda: len(good.served) >= 6, "snapshots of the other feed")
            await published(service, "good", good)
            assert await service.stop() == 0, service.log()[-5000:]
        log = "\n".join(_of("good", service.log()))
        good.audit(lanes(local_lake(data_dir), "good"), None, log, "lake/good/").assert_exactly_once()


async def test_a_reload_adds_and_removes_systems_while_another_goes_on(tmp_path: Path) -> None:
    data_dir, config = tmp_path / "data", tmp_path / "config.toml"
    async with oracle.serving() as good, oracle.serving() as other:
        tables = [table("good", good.url), table("other", other.url)]
        async with at_work(data_dir, tables[0]) as service:
            values: dict[str, object] = {
                "data_dir": data_dir, "feed.interval_seconds": 1, "watcher.poll_seconds": 0.5,
                "http.listen": "127.0.0.1:0", "warehouse.wrm_system": "good",
            }  # fmt: skip
            await service.until(lambda: len(good.served) >= 2, "snapshots")
            assert not other.served
            await _reload(service, config, values | {"systems": tables}, 1)
            await service.until(lambda: len(other.served) >= 3, "snapshots of the new system")
            await published(service, "other", other)
            await _reload(service, config, values | {"systems": tables[:1]}, 2)
            requests, began = other._requests, len(good.served)
            await service.until(lambda: len(good.served) >= began + 3, "snapshots of the one that stays")
            assert other._requests == requests
            await published(service, "good", good)
            assert await service.stop() == 0, service.log()[-5000:]
        log = "\n".join(_of("good", service.log()))
        good.audit(local_lake(data_dir), service.database, log, "lake/good/").assert_exactly_once()
        other.audit(local_lake(data_dir), None, prefix="lake/other/").assert_exactly_once()


async def _reload(service: Service, config: Path, values: Mapping[str, object], count: int) -> None:
    configure(config, values)
    service.process.send_signal(signal.SIGHUP)
    await service.told("reloaded", count)


@pytest.mark.parametrize("systems", [(), ("first", "second")])
async def test_an_old_flat_spool_is_adopted_by_the_first_system(tmp_path: Path, systems: tuple[str, ...]) -> None:
    noon, texts = dt.datetime(2025, 6, 1, 12, tzinfo=UTC), [raw_file(station(n)) for n in range(3)]
    old = await Spool.open(tmp_path / "spool", MAX_BYTES)
    for number, text in enumerate(texts):
        await old.add(noon + dt.timedelta(minutes=number), f"trace{number}", text.encode())
    tables = [SystemSettings.model_validate(table(name, "http://127.0.0.1:9/")) for name in systems]
    settings = Settings(data_dir=tmp_path, systems=tuple(tables))
    async with open_pipeline(settings) as pipeline:
        first, *others = pipeline.lanes.values()
        assert [entry.trace_id for entry in first.delivery.spool.entries] == ["trace0", "trace1", "trace2"]
        assert [lane.delivery.spool.depth for lane in others] == [0] * len(others)
        assert list((tmp_path / "spool").glob("*.txt")) == []
        assert await first.delivery.drain()
        assert [run.rows for run in await whole_road(pipeline)] == [3]
    lake = local_lake(tmp_path)
    assert [lake[first.layout.raw_key(noon + dt.timedelta(minutes=n))].decode() for n in range(3)] == texts
