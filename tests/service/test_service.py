"""The service as a user runs it: a process with signals, a lake, a database and readers."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import duckdb
import pytest

from bikeflow.core.model import UTC
from bikeflow.settings.sections import StorageSettings
from bikeflow.simulator import NO_ODDITIES, City, serve_feed
from bikeflow.store import open_store
from tests.support import feedserver
from tests.support.elsewhere import reading
from tests.support.lines import raw_file, station
from tests.support.rounds import rounds
from tests.support.s3server import S3Server
from tests.support.service import PATIENCE_SECONDS, Service, environment, running
from tests.support.wrm import wrm_layout

ROWS = "SELECT count(*) FROM wrm_analytics.wrm_stations_enhanced_data"
SNAPSHOTS = "SELECT count(DISTINCT s3_source_key) FROM wrm_analytics.wrm_stations_enhanced_data"


@pytest.fixture
async def feed_url() -> AsyncIterator[str]:
    """A simulated city of ten stations."""
    city = City(1, stations=10, free_bikes=3, oddities=NO_ODDITIES)
    async with serve_feed(city.snapshot) as url:
        yield url


def service_log_is_clean(service: Service) -> bool:
    return not any(word in service.log() for word in ("Traceback", "level=error", "level=warning"))


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_snapshots_go_all_the_way_and_a_stop_leaves_everything_in_order(
    tmp_path: Path, feed_url: str, backend: str, request: pytest.FixtureRequest
) -> None:
    storage = StorageSettings()
    if backend == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        storage = server.settings()
    data_dir = tmp_path / "data"
    async with running(data_dir, feed_url, storage=storage) as service:
        await service.until(lambda: (service.query(SNAPSHOTS) or 0) >= 3, "three snapshots in the database")
        stored = (await service.logged("outcome=stored")).split()
        trace_id = next(part.removeprefix("trace_id=") for part in stored if part.startswith("trace_id="))
        for event in ("event=processed", "event=refreshed"):
            assert any(event in line and trace_id in line for line in service.log().splitlines())
        assert await service.stop() == 0
        assert service_log_is_clean(service)
    async with open_store(storage, data_dir) as store:
        layout = wrm_layout(storage.prefix)
        raw = [info.key async for page in store.pages(layout.raw) for info in page]
        assert service.query(SNAPSHOTS) == len(raw)
        assert list((data_dir / "spool").glob("*.txt")) == []


async def verify(service: Service, storage: StorageSettings, settings: Mapping[str, object]) -> tuple[int, str]:
    """The exit code of `bikeflow verify --full` beside the service, and what it says."""
    values = [f"{key}={value}" for key, value in {"data_dir": service.data_dir, **settings}.items()]
    given = [argument for value in values for argument in ("--set", value)]
    variables = environment(storage)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", "verify", "--full", *given,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **variables},
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_segments_that_wait_are_published_proved_and_written_at_the_end(
    tmp_path: Path, feed_url: str, backend: str, request: pytest.FixtureRequest
) -> None:
    storage = StorageSettings()
    if backend == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        storage = server.settings()
    settings = {"processing.write_seconds": 3600}
    async with running(tmp_path / "data", feed_url, storage=storage, settings=settings) as service:
        await service.until(lambda: (service.query(SNAPSHOTS) or 0) >= 4, "four snapshots in the database")
        code, proof = await verify(service, storage, settings)
        assert code == 0 and "need not be in Parquet yet" in proof
        assert await service.stop() == 0
        assert service_log_is_clean(service)
    written = [line for line in service.log().splitlines() if "event=processed" in line and " segments=0 " not in line]
    assert len(written) <= 4  # at the beginning and at the end, of two hours at most
    code, proof = await verify(service, storage, settings)
    assert code == 0 and "need not be in Parquet yet" not in proof


async def test_a_day_that_is_over_when_it_is_found_is_written_as_one_segment_at_once(tmp_path: Path) -> None:
    data_dir, layout = tmp_path / "data", wrm_layout(StorageSettings().prefix)
    for hour in range(24):
        raw = data_dir / "lake" / layout.raw_key(dt.datetime(2025, 6, 1, hour, tzinfo=UTC))
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text(raw_file(station()))
    settings = {"feed.interval_seconds": 3600, "watcher.poll_seconds": 0.1}
    async with feedserver.serve() as feed, running(data_dir, feed.url, settings=settings) as service:
        await service.sees(SNAPSHOTS, 24)
        processed = [line for line in service.log().splitlines() if "event=processed" in line]
        assert sum(" files=0 " not in line for line in processed) == 1
        assert " files=24 " in processed[0]
        assert service.query("SELECT sum(segments) FROM wrm_analytics.publication") == 1


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_a_raw_file_of_somebody_else_becomes_visible_by_itself(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    storage = StorageSettings()
    if backend == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        storage = server.settings()
    async with feedserver.serve() as feed, running(tmp_path / "data", feed.url, storage=storage) as service:
        feed.answers(feedserver.Reply(status=503))
        await service.sees(ROWS, 0)
        async with open_store(storage, tmp_path / "data") as store:
            layout = wrm_layout(storage.prefix)
            for day, rows in ((2, 2), (1, 5)):
                at = dt.datetime(2025, 6, day, 12, tzinfo=UTC)
                await store.put(layout.raw_key(at), raw_file(station(1), station(2), station(3, bikes="x")).encode())
                await service.sees(ROWS, 2 if day == 2 else 4)
                assert rows
        assert service.query("SELECT count(*) FROM wrm_analytics.wrm_stations_latest") == 2
        assert await service.stop() == 0


async def test_a_killed_service_goes_on_where_it_was(tmp_path: Path, feed_url: str) -> None:
    for _ in range(rounds(1, 3)):
        async with running(tmp_path / "data", feed_url) as service:
            before = service.query(SNAPSHOTS) or 0
            await service.until(lambda: (service.query(SNAPSHOTS) or 0) > before, "a new snapshot")  # noqa: B023
            await service.stop(signal.SIGKILL)
    async with running(tmp_path / "data", feed_url) as service:
        await service.logged("event=reconciled")
        await asyncio.sleep(1)
        assert await service.stop() == 0
    raw = list((tmp_path / "data/lake").glob("**/raw/**/*.txt"))
    await asyncio.sleep(0)
    assert service.query(SNAPSHOTS) == len(raw)
    assert service.query(ROWS) == sum(path.read_text().count("\n") - 1 for path in raw)


async def test_a_second_instance_on_the_same_directory_refuses_with_one_line(tmp_path: Path, feed_url: str) -> None:
    async with running(tmp_path / "data", feed_url) as service:
        await service.logged("event=started")
        async with running(tmp_path / "data", feed_url) as second:
            assert await asyncio.wait_for(second.process.wait(), PATIENCE_SECONDS) == 1
            (line,) = [line for line in second.log().splitlines() if "another bikeflow" in line]
        assert str(service.process.pid) in line
        assert await service.stop() == 0


async def test_an_unreachable_feed_is_said_in_one_line_that_mentions_the_demo(tmp_path: Path) -> None:
    async with running(tmp_path / "data", "http://127.0.0.1:9/feed.txt", settings={"retry.attempts": 1}) as service:
        line = await service.logged("bikeflow demo")
        assert "127.0.0.1:9" in line
        await asyncio.sleep(2.5)
        assert sum("bikeflow demo" in line for line in service.log().splitlines()) == 1
        assert await service.stop() == 0


async def test_any_reader_opens_the_database_at_any_time_and_a_plain_glob_counts_each_row_once(
    tmp_path: Path, feed_url: str
) -> None:
    async with running(tmp_path / "data", feed_url) as service:
        await service.sees(f"SELECT count(*) > 0 FROM ({ROWS})", True)
        glob = tmp_path / "data/lake/bike-data/gen_info/enhanced/all/**/*.parquet"
        seen = []
        for _ in range(rounds(20, 60)):
            seen.append(service.query(ROWS))
            total, distinct = plain_counts(glob)
            assert total == distinct
            await asyncio.sleep(0.05)
        assert seen == sorted(seen)
        assert await service.stop() == 0


def plain_counts(glob: Path) -> tuple[int, int]:
    """Rows, and different rows. DuckDB opens a file several times: where it is replaced in between, the query fails."""
    sql = f"SELECT count(*), count(DISTINCT (s3_source_key, station_id)) FROM '{glob}'"
    for _ in range(20):
        try:
            with duckdb.connect() as plain:
                return plain.execute(sql).fetchall()[0]
        except duckdb.Error:
            continue
    raise AssertionError("a plain glob never works")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(body=b"x", wait_seconds=60))
        async with running(tmp_path / "data", feed.url, settings={"feed.timeout_seconds": 50}) as service:
            await asyncio.wait_for(feed.asked.wait(), PATIENCE_SECONDS)
            service.process.send_signal(number)
            await service.logged("event=stopping")
            assert await service.stop(number) == -number


async def test_after_an_outage_of_the_store_what_waited_goes_through_by_itself(tmp_path: Path, feed_url: str) -> None:
    layout, data_dir = wrm_layout("bike-data/gen_info/"), tmp_path / "data"
    settings = {"feed.interval_seconds": 60, "retry.attempts": 1}
    async with running(data_dir, feed_url, settings=settings) as service:
        await service.sees(SNAPSHOTS, 1)
        lake, away = data_dir / "lake", data_dir / "lake-is-away"
        at = dt.datetime(2025, 6, 1, 12, tzinfo=UTC)
        lake.rename(away)
        raw = away / layout.raw_key(at)
        raw.parent.mkdir(parents=True)
        raw.write_text(raw_file(station(1)))
        await service.logged("event=storage_failed")
        await asyncio.sleep(2)
        away.rename(lake)
        await service.logged("event=storage_recovered")
        await service.sees(SNAPSHOTS, 2)
        assert await service.stop() == 0


async def test_readers_elsewhere_get_the_last_word_and_a_postgres_that_is_away_hinders_nobody(
    tmp_path: Path, feed_url: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = s3_server.settings()
    monkeypatch.setenv("POSTGRES_HOST", "127.0.0.1")
    monkeypatch.setenv("POSTGRES_PORT", "9")
    settings = {"warehouse.mode": "hybrid", "warehouse.upload_seconds": 3600, "retry.attempts": 1}
    async with running(tmp_path / "data", feed_url, storage=storage, settings=settings) as service:
        await service.logged("event=exported target=s3")
        await service.logged("event=export_failed target=postgres")
        await service.until(lambda: (service.query(SNAPSHOTS) or 0) >= 3, "three snapshots in the database")
        async with aiohttp.ClientSession() as session, session.get(f"{await service.url()}/api/v1/status") as answer:
            exports = (await answer.json())["exports"]
            assert exports["s3"] == {"works": True} and "PostgreSQL" in exports["postgres"]["reason"]
        assert await service.stop() == 0
        last = service.query("SELECT CAST(max(file_timestamp) AS VARCHAR) FROM wrm_analytics.wrm_history")
    async with reading(storage, s3_server) as reader:
        assert await reader.ask("SELECT max(file_timestamp) FROM bikes.wrm_analytics.wrm_history") == [[last]]
