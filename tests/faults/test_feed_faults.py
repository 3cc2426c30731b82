"""A feed that misbehaves, through the real fetcher and the whole road: each document costs its own bad lines only."""

from __future__ import annotations

import codecs
import datetime as dt
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from aiohttp import web

from bikeflow.model import UTC, PartitionJob
from bikeflow.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, RetrySettings
from bikeflow.verifier import Verifier
from tests.support import feedserver
from tests.support.feedserver import FeedServer, Reply
from tests.support.lines import HEADER, raw_file, station

HUGE_BYTES = 500 * 1024 * 1024
TOMORROW = f"{time.time() + 86_400:.1f}|-7200|-3600"


@dataclass(frozen=True)
class Odd:
    """A document, and what it must come to; `stored` is False for one that is no feed document."""

    body: str | bytes
    rows: int = 0
    rejected: int = 0
    flag: str = ""
    stored: bool = True


ODD = {
    "html": Odd("<html><body>maintenance</body></html>", stored=False),
    "nothing": Odd(b"", stored=False),
    "header only": Odd(f"{HEADER}\n", stored=True),
    "cut in mid-line": Odd(raw_file(station(1), station(2))[:-20], rows=1, rejected=1),
    "byte order mark": Odd(codecs.BOM_UTF8 + raw_file(station(1)).encode(), rows=1),
    "another charset": Odd(raw_file(station(1, name='"Dworzec Główny, południe"')).encode("cp1250"), rows=1),
    "mojibake": Odd(raw_file(station(1, name="Plac Jana Pawła II".encode().decode("cp1252"))), rows=1),
    "NUL bytes": Odd(raw_file(station(1, name="Ry\0nek"), station(2), "\0\0\0"), rows=2, rejected=1),
    "column added": Odd(raw_file(f"{station(1)},x", header=f"{HEADER},colour"), rows=1),
    "column renamed": Odd(raw_file(station(1), station(2), header=HEADER.replace("lat", "latitude")), rejected=2),
    "the same id twice": Odd(raw_file(station(1), station(1), station(2)), rows=2, rejected=1),
    "5+ bikes": Odd(raw_file(station(1, bikes="5+"), station(2)), rows=1, rejected=1),
    "NaN and infinity": Odd(raw_file(station(1, lat="NaN"), station(2, lon="-inf"), station(3)), rows=1, rejected=2),
    "negative": Odd(raw_file(station(1, bikes="-1"), station(2)), rows=1, rejected=1),
    "huge number": Odd(raw_file(station(1, spaces="9" * 40), station(2)), rows=1, rejected=1),
    "latitude and longitude swapped": Odd(
        raw_file(station(1, lat="17.03", lon="51.1"), station(2)), rows=2, flag="outside_service_area"
    ),
    "quotes and a line break in a name": Odd(raw_file(station(1, name='"Plac ""A""\nB, C"'), station(2)), rows=2),
    "timestamps of tomorrow": Odd(raw_file(station(1, packed=TOMORROW)), rows=1, flag="future_timestamp"),
    "half of the stations": Odd(raw_file(station(2)), rows=1),
}


@dataclass
class Road:
    """A pipeline in this process, and its feed."""

    feed: FeedServer
    pipeline: Pipeline
    data_dir: Path

    async def fetch(self, body: str | bytes) -> tuple[str, str]:
        """Serve a document and fetch it; gives the outcome and the key."""
        self.feed.answers(Reply(body if isinstance(body, bytes) else body.encode()))
        outcome = await self.pipeline.fetcher.fetch_once()
        return outcome.outcome, outcome.key

    async def work(self) -> None:
        """All that the other roles would do."""
        assert await self.pipeline.delivery.drain()
        await self.pipeline.watcher.poll()
        await self.pipeline.reconciler.reconcile()
        for day in self.pipeline.ledger.files.dirty_partitions():
            run = await self.pipeline.processors[0].process(PartitionJob(day))
            assert run is not None and run.outcome == "done"
        await self.pipeline.refresher.refresh_once()

    async def verified(self) -> None:
        """Every line must be accounted for, and every row be that of a fresh parse."""
        report = await Verifier(self.pipeline.store, self.pipeline.layout, sample=None).verify(lambda day: True)
        assert report.findings == []

    def ask(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        """What the published database answers."""
        with duckdb.connect(self.data_dir / "analytics.duckdb", read_only=True) as database:
            return database.execute(sql, parameters or None).fetchall()


@asynccontextmanager
async def opened(data_dir: Path, url: str) -> AsyncIterator[Pipeline]:
    settings = Settings(data_dir=data_dir, feed=FeedSettings(url=url), retry=RetrySettings(attempts=1))
    async with open_pipeline(settings) as pipeline:
        yield pipeline


@pytest.fixture
async def road(tmp_path: Path) -> AsyncIterator[Road]:
    """An empty lake and a feed."""
    async with feedserver.serve() as feed, opened(tmp_path, feed.url) as pipeline:
        yield Road(feed, pipeline, tmp_path)


async def test_each_odd_document_costs_its_own_bad_lines_and_nothing_else(road: Road) -> None:
    keys: dict[str, str] = {}
    for name, odd in ODD.items():
        outcome, key = await road.fetch(odd.body)
        assert outcome == ("stored" if odd.stored else "not_a_feed"), name
        keys |= {name: key} if key else {}
    await road.work()
    await road.verified()
    counts = {key: (rows, rejected) for key, rows, rejected in road.ask(
        "SELECT s3_source_key, rows, rejected FROM wrm_analytics.pipeline_files"
    )}  # fmt: skip
    assert {name: counts[key] for name, key in keys.items()} == {
        name: (odd.rows, odd.rejected) for name, odd in ODD.items() if odd.stored
    }
    flagged = set(road.ask("SELECT s3_source_key, unnest(quality_flags) FROM wrm_analytics.wrm_history"))
    assert {(keys[name], odd.flag) for name, odd in ODD.items() if odd.flag} <= flagged
    names = {name for (name,) in road.ask("SELECT DISTINCT name FROM wrm_analytics.wrm_history")}
    assert {"Dworzec Główny, południe", "Plac Jana Pawła II", 'Plac "A"\nB, C'} <= names
    assert road.ask("SELECT count(*) FROM wrm_analytics.station_summary") == [(3,)], "those that are gone stay known"


async def test_a_frozen_feed_is_stored_once_and_is_no_fault(road: Road) -> None:
    outcomes = [(await road.fetch(raw_file(station(1))))[0] for _ in range(5)]
    assert outcomes == ["stored", *["duplicate"] * 4]
    await road.work()
    assert road.pipeline.vitals().feed is None
    assert road.ask("SELECT count(*) FROM wrm_analytics.wrm_history") == [(1,)]


@pytest.fixture
def summer_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock shows the local time of a place with summer time."""
    monkeypatch.setenv("TZ", "Europe/Warsaw")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("summer_time")
async def test_a_machine_that_keeps_local_time_names_its_files_in_utc(road: Road) -> None:
    before = dt.datetime.now(UTC).replace(microsecond=0)
    _, key = await road.fetch(raw_file(station(1)))
    name = key.rpartition("wrm_stations_")[2].removesuffix(".txt")
    assert before <= dt.datetime.strptime(name, "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC) <= dt.datetime.now(UTC)
    await road.work()
    await road.verified()


async def test_half_a_gigabyte_is_not_taken(tmp_path: Path) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = HUGE_BYTES
        await response.prepare(request)
        chunk = f"{station(1)}\n".encode() * 1_000
        while sent < HUGE_BYTES:
            await response.write(chunk)
            sent += len(chunk)
        return response

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with opened(tmp_path, f"http://127.0.0.1:{site.port}/") as pipeline:
            tracemalloc.start()
            outcome = await pipeline.fetcher.fetch_once()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    finally:
        await runner.cleanup()
    assert (outcome.outcome, "feed.max_bytes" in outcome.error) == ("failed", True)
    assert sent < 64 * 1024 * 1024
    assert peak < 64 * 1024 * 1024
