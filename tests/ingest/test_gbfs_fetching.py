"""The fetcher on GBFS, against a real server and a real store: one snapshot, one object."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.layout import Layout
from bikeflow.core.scope import Scope
from bikeflow.feeds import layout_of
from bikeflow.feeds.base import Answer
from bikeflow.feeds.gbfs import GbfsFormat, polling
from bikeflow.feeds.gbfs.container import manifest, unpack
from bikeflow.feeds.gbfs.documents import NoArray
from bikeflow.feeds.gbfs.parsing import count_records
from bikeflow.ingest import Delivery, Fetcher
from bikeflow.ingest import fetcher as fetching
from bikeflow.ingest.dead_letters import file_usable
from bikeflow.ingest.spool import Spool
from bikeflow.ingest.upstream import Connections, Upstream
from bikeflow.ledger import Ledger, SystemIndex
from bikeflow.settings.sections import FeedSettings, RetrySettings, RulesSettings, StorageSettings
from bikeflow.settings.systems import System
from bikeflow.store import Store, open_store
from tests.support.gbfs import HARBOUR, HILL, documents, recordings
from tests.support.gbfsserver import GbfsServer, discovery, serve_gbfs

RETRY = RetrySettings(attempts=2, initial_seconds=0.01, max_seconds=0.02)


def system_of(feed: FeedSettings) -> System:
    """The system that is fetched."""
    return System("harbour", "Harbour", "gbfs", "bike-data/harbour/", "UTC", feed, RulesSettings())


LAYOUT = layout_of(system_of(FeedSettings()))


@dataclass
class World:
    """All that a fetcher lives in; `restart` begins a new process on the same disk."""

    server: GbfsServer
    store: Store
    directory: Path
    stack: AsyncExitStack
    memory: SystemIndex
    layout: Layout = LAYOUT
    days: int = 0
    """How many days the clock is ahead."""

    def clock(self) -> dt.datetime:
        """What time it is."""
        return dt.datetime.now(dt.UTC) + dt.timedelta(self.days)

    async def restart(self, **changes: Any) -> Fetcher:
        """A fetcher that remembers what the one before has told the memory."""
        feed = FeedSettings(url=self.server.url, **{"timeout_seconds": 5, **changes})
        spool = await Spool.open(self.directory / "spool", feed.spool_max_bytes)
        self.delivery = Delivery(self.store, self.layout, spool, RETRY)
        connections = await self.stack.enter_async_context(Connections(feed.connections_per_host))
        upstream = Upstream(feed, RETRY, connections)
        return Fetcher(system_of(feed), upstream, self.delivery, self.memory, clock=self.clock)

    def forget(self) -> None:
        """Go on with a ledger that remembers nothing."""
        lost = self.stack.enter_context(Ledger(self.directory / "lost", [LAYOUT], 60))
        self.memory = lost.systems[LAYOUT.system_id]

    async def lake(self) -> dict[str, bytes]:
        """The raw objects that were delivered, by key."""
        await self.delivery.drain()
        keys = [info.key async for page in self.store.pages(self.layout.raw) for info in page]
        return {key: (await self.store.get(key)).data for key in sorted(keys)}

    async def newest(self) -> bytes:
        """The newest raw object."""
        return list((await self.lake()).values())[-1]


@asynccontextmanager
async def world_of(folder: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A server with a recording, and an empty lake."""
    async with (
        AsyncExitStack() as stack,
        serve_gbfs(folder) as server,
        open_store(StorageSettings(), tmp_path) as store,
    ):
        ledger = stack.enter_context(Ledger(tmp_path, [LAYOUT], 60))
        yield World(server, store, tmp_path, stack, ledger.systems[LAYOUT.system_id])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The small recording, without any `ttl`."""
    async with world_of(HARBOUR, tmp_path) as found:
        found.server.set_ttl(0)
        yield found


def told(data: bytes) -> dict[str, dict[str, Any]]:
    """What a raw object tells of its documents, by name."""
    return {str(entry["name"]): dict(entry) for entry in manifest(data)}


def one_more_bike(document: dict[str, Any]) -> None:
    """A change of a station_status."""
    document["data"]["stations"][0]["num_bikes_available"] += 1


@pytest.mark.parametrize("folder", recordings(), ids=lambda folder: "-".join(folder.parts[-2:]))
async def test_a_recording_becomes_one_object_with_its_documents_verbatim(folder: Path, tmp_path: Path) -> None:
    expected = {name: body for name, body in documents(folder).items() if name != "gbfs"}
    async with world_of(folder, tmp_path) as world:
        listed = {name for name in expected if f'"{name}'.encode() in world.server.bodies["gbfs"]}
        fetcher = await world.restart(interval_seconds=1)
        outcome = await fetcher.fetch_once()
        if not listed & {"station_status", "free_bike_status", "vehicle_status"}:
            assert (outcome.outcome, await world.lake()) == ("not_a_feed", {})
            return
        assert outcome.outcome == "stored"
        ((key, data),) = (await world.lake()).items()
        assert key == outcome.key and key.endswith(".zip")
        found = unpack(data)
        assert {name: found[name] for name in found if name != "gbfs"} == {name: expected[name] for name in listed}
        assert count_records(data).readable
        assert (await fetcher.fetch_once()).outcome in ("not_modified", "duplicate")
        assert len(await world.lake()) == 1


async def test_every_document_has_its_own_conditional_request(world: World) -> None:
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "stored"
    world.server.asked.clear()
    assert (await fetcher.fetch_once()).outcome == "not_modified"
    assert {one.status for one in world.server.asked} == {304}
    world.server.edit("station_status", one_more_bike)
    world.server.asked.clear()
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert {one.name: one.status for one in world.server.asked} == {
        name: 200 if name == "station_status" else 304 for name in world.server.bodies
    }
    entries = told(await world.newest())
    assert entries.keys() == world.server.bodies.keys()
    assert all(entry["status"] == 200 and entry["etag"] and entry["error"] is None for entry in entries.values())
    assert all(entry["url"].startswith(world.server.root) for entry in entries.values())


async def test_last_updated_and_ttl_alone_make_no_new_snapshot_in_this_process_or_the_next(world: World) -> None:
    def touch(document: dict[str, Any]) -> None:
        document["last_updated"] += 60
        document["ttl"] = document["ttl"] / 2

    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "stored"
    for _ in range(2):
        for name in world.server.bodies:
            world.server.edit(name, touch)
        assert (await fetcher.fetch_once()).outcome == "duplicate"
        fetcher = await world.restart()
        assert (await fetcher.fetch_once()).outcome == "duplicate"
    world.forget()  # only the archive knows
    assert len(await world.lake()) == 1
    assert (await (await world.restart()).fetch_once()).outcome == "duplicate"


async def test_what_waits_in_the_spool_is_not_fetched_twice_by_the_next_process(world: World) -> None:
    assert (await (await world.restart()).fetch_once()).outcome == "stored"
    world.forget()
    assert (await (await world.restart()).fetch_once()).outcome == "duplicate"


async def test_no_document_is_asked_for_before_its_ttl_is_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.set_ttl(3600)
    world.server.set_ttl(1, "station_status")
    world.server.set_ttl(2.5, "free_bike_status")
    fetcher = await world.restart(interval_seconds=1)
    ask, sent = fetcher._upstream.ask, defaultdict[str, list[float]](list)

    async def noting_ask(url: str, *arguments: Any, **options: Any) -> Answer:
        """Note when a request was made: on a busy machine it arrives later."""
        sent[url.rpartition("/")[2].removesuffix(".json")].append(time.monotonic())
        return await ask(url, *arguments, **options)

    monkeypatch.setattr(fetcher._upstream, "ask", noting_ask)
    stop = asyncio.Event()
    running = asyncio.create_task(fetcher.run(stop))
    await asyncio.sleep(7)
    stop.set()
    await running
    gaps = {name: [later - earlier for earlier, later in pairwise(times)] for name, times in sent.items()}
    assert min(gaps["station_status"]) > 0.98 and min(gaps["free_bike_status"]) > 2.48
    assert 5 <= world.server.count("station_status") <= 8 and 2 <= world.server.count("free_bike_status") <= 3
    assert {world.server.count(name) for name in ("gbfs", "station_information", "vehicle_types")} == {1}


async def test_a_ttl_counts_for_as_long_as_is_configured(world: World) -> None:
    world.server.set_ttl(3600)
    fetcher = await world.restart(max_ttl_seconds=0)
    for _ in range(3):
        await fetcher.fetch_once()
    assert {world.server.count(name) for name in world.server.bodies} == {3}


async def test_a_document_that_is_not_due_is_in_the_snapshot_as_it_was(world: World) -> None:
    world.server.set_ttl(3600, "station_information", "vehicle_types", "free_bike_status")
    fetcher = await world.restart()
    await fetcher.fetch_once()
    before = unpack(await world.newest())
    world.server.edit("station_status", one_more_bike)
    assert (await fetcher.fetch_once()).outcome == "stored"
    after = unpack(await world.newest())
    assert {name for name in before if before[name] != after[name]} == {"station_status"}
    assert world.server.count("station_information") == 1


@pytest.mark.parametrize("name", ["system_information", "vehicle_types", "station_information", "free_bike_status"])
@pytest.mark.parametrize("status", [404, 500])
async def test_a_failing_document_does_not_lose_the_snapshot(world: World, name: str, status: int) -> None:
    world.server.status[name] = status
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "stored"
    data = await world.newest()
    assert told(data)[name]["file"] is None and str(status) in told(data)[name]["error"]
    assert unpack(data).keys() == world.server.bodies.keys() - {name}
    for _ in range(8):  # nor does it close the way for the others, or is asked for at every poll
        world.server.edit("station_status", one_more_bike)
        assert (await fetcher.fetch_once()).outcome == "stored"
    assert world.server.count(name) == 1


async def test_what_failed_is_replaced_by_what_was_fetched_before_but_never_vehicles(world: World) -> None:
    fetcher = await world.restart()
    await fetcher.fetch_once()
    world.server.status.update(station_information=503, free_bike_status=503)
    world.server.edit("station_status", one_more_bike)
    assert (await fetcher.fetch_once()).outcome == "stored"
    data = await world.newest()
    assert unpack(data)["station_information"] == world.server.bodies["station_information"]
    assert "free_bike_status" not in unpack(data)
    assert "503" in told(data)["station_information"]["error"] and "503" in told(data)["free_bike_status"]["error"]


async def test_without_the_status_of_stations_there_is_no_snapshot(world: World) -> None:
    world.server.status["station_status"] = 503
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "failed"
    assert world.server.count("station_status") == RETRY.attempts
    world.server.status.clear()
    assert (await fetcher.fetch_once()).outcome == "stored"


async def test_a_status_that_is_no_document_is_kept_where_people_look_for_it(world: World) -> None:
    world.server.bodies["station_status"] = b"<html>Bad gateway</html>"
    fetcher = await world.restart()
    outcome = await fetcher.fetch_once()
    assert outcome.outcome == "not_a_feed" and "station_status" in outcome.error
    letters = [info.key async for page in world.store.pages(f"{world.layout.prefix}dlq/feed/") for info in page]
    letter = json.loads((await world.store.get(letters[0])).data)
    assert letter["body"] == "<html>Bad gateway</html>" and "station_status" in letter["reason"]
    assert await world.lake() == {}


async def test_an_unusable_status_becomes_a_snapshot_with_all_that_belongs_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_understood(name: str, _document: object) -> None:
        raise NoArray(f"{name} is of a version that nobody knows")

    with monkeypatch.context() as older:
        older.setattr(polling, "array_of", not_understood)
        outcome = await (await world.restart()).fetch_once()
    assert outcome.outcome == "not_a_feed" and await world.lake() == {}
    system = system_of(FeedSettings(url=world.server.url))
    filed = await file_usable(world.store, world.layout, GbfsFormat(system), Scope())
    assert (filed.documents, filed.left) == (1, 0)
    documents = unpack(await world.newest())
    assert documents.keys() == world.server.bodies.keys()
    assert documents["station_status"] == world.server.bodies["station_status"]
    assert count_records(await world.newest()).readable


async def test_the_first_snapshot_of_a_day_is_kept_though_nothing_has_changed(world: World) -> None:
    fetcher = await world.restart(clock_seconds=0)
    for _ in range(3):
        assert (await fetcher.fetch_once()).outcome == "stored"
        assert (await fetcher.fetch_once()).outcome == "not_modified"
        world.days += 1
    first, *others = (told(data) for data in (await world.lake()).values())
    assert len(others) == 2 and all(other.keys() == first.keys() for other in others)


async def test_a_server_that_says_not_modified_for_ever_is_asked_without_conditions_now_and_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "stored"
    monkeypatch.setattr(fetching, "WHOLE_SECONDS", 0.0)
    world.server.asked.clear()
    assert (await fetcher.fetch_once()).outcome == "not_modified"
    assert {one.status for one in world.server.asked} == {200}


async def test_a_broken_document_beside_the_status_is_kept_as_it_was_served(world: World) -> None:
    world.server.bodies["station_information"] = b'{"data": {"stations": [,]}}'
    assert (await (await world.restart()).fetch_once()).outcome == "stored"
    assert unpack(await world.newest())["station_information"] == b'{"data": {"stations": [,]}}'


async def test_a_slow_document_holds_back_one_poll_and_then_waits_for_its_turn(world: World) -> None:
    world.server.delay_seconds["vehicle_types"] = 30
    fetcher = await world.restart(timeout_seconds=0.5)
    assert (await fetcher.fetch_once()).outcome == "stored"
    world.server.edit("station_status", one_more_bike)
    began = time.monotonic()
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert time.monotonic() - began < 0.5
    assert "vehicle_types" not in unpack(await world.newest())


async def test_redirects_are_followed(world: World) -> None:
    world.server.redirects = {"gbfs": "/moved/gbfs.json", "station_status": "/moved/station_status.json"}
    assert (await (await world.restart()).fetch_once()).outcome == "stored"


async def test_documents_that_have_moved_are_found_at_their_new_address(world: World) -> None:
    world.server.set_ttl(3600, "gbfs")
    fetcher = await world.restart()
    await fetcher.fetch_once()
    # From now on the stations' status is served as another document, which a fresh gbfs.json lists.
    listing = json.loads(world.server.bodies["gbfs"])
    world.server.status["station_status"] = 404
    assert (await fetcher.fetch_once()).outcome == "failed"
    listing["data"] = {"feeds": [{"name": "vehicle_status", "url": ""}]}
    world.server.bodies["gbfs"] = json.dumps(listing).encode()
    world.server.bodies["vehicle_status"] = documents(HILL)["vehicle_status"]
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert unpack(await world.newest()).keys() == {"gbfs", "vehicle_status"}


async def test_a_gbfs_json_that_breaks_later_does_not_stop_the_polls(world: World) -> None:
    fetcher = await world.restart()
    await fetcher.fetch_once()
    world.server.bodies["gbfs"] = discovery(["geofencing_zones"])
    world.server.edit("station_status", one_more_bike)
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert "lists neither" in told(await world.newest())["gbfs"]["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html></html>", b'{"data": {}}', b"[]", discovery(["geofencing_zones"]), b'{"data": {"feeds": [1, {}]}}'],
)
async def test_an_address_without_a_usable_gbfs_json_is_told(world: World, body: bytes) -> None:
    world.server.bodies["gbfs"] = body
    world.server._listing = lambda: body  # type: ignore[method-assign]
    outcome = await (await world.restart()).fetch_once()
    assert outcome.outcome == "not_a_feed" and "gbfs can't be used" in outcome.error
