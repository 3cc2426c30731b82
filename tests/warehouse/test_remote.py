"""The database in the bucket, over a real S3 server, as a reader in another process with a secret of its own has it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.errors import ConfigError, Transient
from bikeflow.core.events import Events
from bikeflow.core.model import Event, ExportFinished
from bikeflow.service.pipeline import open_pipeline
from bikeflow.settings import Settings, load_settings
from bikeflow.settings.sections import RetrySettings, StorageSettings, WarehouseSettings
from bikeflow.warehouse import RemoteDatabase, published_path, remote
from bikeflow.warehouse.bucket import secret_sql
from bikeflow.warehouse.exporter import Exporter
from bikeflow.warehouse.statements import compatible, published
from tests.support.elsewhere import reading
from tests.support.lines import bike, raw_file, station
from tests.support.parquet import DAY, Row, at, snapshot
from tests.support.pipelines import process_dirty, wrm_lane
from tests.support.s3server import S3Server
from tests.support.service import PATIENCE_SECONDS
from tests.warehouse.conftest import Analytics, open_analytics


@dataclass
class Elsewhere:
    """A lake in a bucket, its warehouse, and the database in the bucket."""

    analytics: Analytics
    storage: StorageSettings
    database: RemoteDatabase

    async def publish(self) -> dict[str, object]:
        await self.analytics.refresh()
        return await self.database.export()

    async def keys(self, prefix: str = "duckdb/") -> set[str]:
        below = f"{self.storage.prefix}{prefix}"
        return {info.key.removeprefix(below) async for page in self.analytics.layer.store.pages(below) for info in page}


@pytest.fixture
async def elsewhere(tmp_path: Path, s3_server: S3Server) -> AsyncIterator[Elsewhere]:
    storage = s3_server.settings()
    async with open_analytics(tmp_path / "data", storage) as analytics:
        yield Elsewhere(
            analytics,
            storage,
            RemoteDatabase(
                analytics.layer.store, storage, [analytics.layer.layout], analytics.warehouse, tmp_path / "upload"
            ),
        )


def hour_of(hour: int, day: dt.date = DAY, **changes: object) -> list[Row]:
    return snapshot(at(hour, day=day), "1", "2", "fb1", **changes) + snapshot(at(hour, 30, day=day), "1", "2", "fb1")


async def test_a_reader_elsewhere_finds_all_that_a_reader_here_finds(elsewhere: Elsewhere, s3_server: S3Server) -> None:
    layer = elsewhere.analytics.layer
    for day in range(4):
        for hour in (8, 9):
            await layer.put_hour(hour, *hour_of(hour, DAY + dt.timedelta(day)), day=DAY + dt.timedelta(day))
    # over midnight, a day begins with what a file of the one before tells
    await layer.put_hour(23, *hour_of(23), *snapshot(at(23, 50), "1", "fb1"))
    next_day = DAY + dt.timedelta(days=1)
    await layer.put_hour(0, *snapshot(at(0, 10, day=next_day), "1", "fb1"), day=next_day)
    for day in (0, 1, 3):
        await layer.seal(DAY + dt.timedelta(day))
    await elsewhere.publish()
    async with reading(elsewhere.storage, s3_server) as reader:
        for item in (*published(), *compatible("wrm")):
            here = elsewhere.analytics.query(f"FROM analytics.{item.schema}.{item.name} ORDER BY ALL")
            told = await reader.ask(f"FROM bikes.{item.schema}.{item.name} ORDER BY ALL")
            assert told == [[str(value) for value in row] for row in here], item.name
        types = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'wrm_analytics'"
        here = elsewhere.analytics.query(f"{types} ORDER BY ALL")
        assert await reader.ask(f"{types} ORDER BY ALL") == [list(row) for row in here]
        (plan,) = await reader.ask(
            f"EXPLAIN SELECT sum(bikes) FROM bikes.wrm_analytics.wrm_history WHERE date = '{DAY}'"
        )
        assert "Scanning Files: 1/" in plan[1]


async def test_the_uploaded_files_hold_no_secret(elsewhere: Elsewhere, s3_server: S3Server) -> None:
    await elsewhere.analytics.layer.put_hour(8, *hour_of(8))
    await elsewhere.publish()
    for key in await elsewhere.keys():
        data = (await elsewhere.analytics.layer.store.get(f"{elsewhere.storage.prefix}duckdb/{key}")).data
        assert s3_server.access_key_id.encode() not in data and s3_server.secret_access_key.encode() not in data


async def test_what_a_reader_has_attached_stays_as_it_is_whatever_happens_to_the_lake(
    elsewhere: Elsewhere, s3_server: S3Server
) -> None:
    layer, ask = elsewhere.analytics.layer, "FROM bikes.wrm_analytics.{} ORDER BY ALL"
    objects = ("wrm_stations_latest", "wrm_history", "station_hourly", "publication")
    for hour in (8, 9):
        await layer.put_hour(hour, *hour_of(hour))
    await elsewhere.publish()
    async with reading(elsewhere.storage, s3_server) as early, reading(elsewhere.storage, s3_server) as late:
        before = [await early.ask(ask.format(name)) for name in objects]
        await layer.put_hour(9, *hour_of(9), *snapshot(at(9, 45), "1", "2", bikes=3))
        await elsewhere.publish()
        await layer.seal()
        await elsewhere.publish()
        assert [await early.ask(ask.format(name)) for name in objects] == before
        # also what it has not looked at before
        assert await late.ask("SELECT count(*) FROM bikes.wrm_analytics.wrm_history") == [["12"]]
        assert await late.ask("SELECT max(bikes) FROM bikes.wrm_analytics.wrm_stations_latest") == [["7"]]
    async with reading(elsewhere.storage, s3_server) as new:
        assert await new.ask("SELECT count(*) FROM bikes.wrm_analytics.wrm_history") == [["14"]]
        assert await new.ask("SELECT max(bikes) FROM bikes.wrm_analytics.wrm_stations_latest") == [["3"]]


async def test_only_what_is_new_is_uploaded_and_what_nobody_names_goes_in_time(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layer = elsewhere.analytics.layer
    for hour in (8, 9):
        await layer.put_hour(hour, *hour_of(hour))
    told = await elsewhere.publish()
    pages = layer.store.pages(f"{elsewhere.storage.prefix}duckdb/")
    assert told["bytes"] == sum([info.size async for page in pages for info in page])
    first = await elsewhere.keys("duckdb/files/")
    await layer.put_hour(9, *hour_of(9), *snapshot(at(9, 45), "1", "2", bikes=3))
    await elsewhere.publish()
    added = await elsewhere.keys("duckdb/files/") - first
    assert {key.rpartition("/")[0].partition("/")[2] for key in added} == {f"files/system_id=wrm/dt={DAY}", ""}
    assert not any(key.startswith(("tables/catalog", "tables/lineage")) for key in added)
    # a new process knows from the bucket what is there, and lets go of the rest
    again = RemoteDatabase(
        layer.store, elsewhere.storage, [layer.layout], elsewhere.analytics.warehouse, tmp_path / "again"
    )
    told = await again.export()
    assert told["files"] == 0
    monkeypatch.setattr(remote, "RETAINED_SECONDS", -1.0)
    await again.export()
    left = await elsewhere.keys("duckdb/files/")
    assert added <= left < first | added
    lost = f"{elsewhere.storage.prefix}duckdb/files/{min(added)}"
    await layer.store.delete(lost)
    assert (await again.export())["files"] == 1
    assert lost.removeprefix(f"{elsewhere.storage.prefix}duckdb/files/") in await elsewhere.keys("duckdb/files/")


async def test_a_bucket_that_does_not_answer_is_a_transient_failure(elsewhere: Elsewhere) -> None:
    layer = elsewhere.analytics.layer
    await layer.put_hour(8, *hour_of(8))
    await elsewhere.analytics.refresh()
    gone = elsewhere.storage.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    broken = RemoteDatabase(
        layer.store, gone, [layer.layout], elsewhere.analytics.warehouse, elsewhere.analytics.data_dir / "u"
    )
    with pytest.raises(Transient, match="building the database"):
        await broken.export()
    assert "analytics.duckdb" not in await elsewhere.keys()


async def test_nothing_is_uploaded_before_anything_is_published(elsewhere: Elsewhere) -> None:
    assert await elsewhere.database.export() == {}
    assert await elsewhere.keys() == set()


@pytest.mark.parametrize("mode", ["s3", "hybrid"])
async def test_the_pipeline_publishes_where_the_mode_says(tmp_path: Path, s3_server: S3Server, mode: Any) -> None:
    warehouse = WarehouseSettings(mode=mode, upload_seconds=0)
    settings = Settings(data_dir=tmp_path, storage=s3_server.settings(), warehouse=warehouse)
    events, told = Events(), list[Event]()
    events.subscribe(told.append)
    stop = asyncio.Event()
    async with open_pipeline(settings, events) as pipeline:
        (exporter,) = pipeline.shared.exporters
        key = wrm_lane(pipeline).layout.raw_key(at(8))
        await pipeline.shared.store.put(key, raw_file(station(1), bike(1)).encode())
        await pipeline.reconcile()
        await process_dirty(pipeline)
        work = asyncio.create_task(exporter.run(stop))
        await pipeline.shared.refresher.refresh_once()
        stop.set()  # what is pending is exported first
        await work
    assert [event.outcome for event in told if isinstance(event, ExportFinished)] == ["done"]
    assert (tmp_path / "analytics.duckdb").exists() == (mode == "hybrid")
    assert published_path(warehouse, tmp_path).exists()
    async with reading(settings.storage, s3_server) as reader:
        assert await reader.ask("SELECT station_id FROM bikes.wrm_analytics.wrm_bikes_latest") == [["fb1"]]


async def test_an_exporter_tries_again_until_it_works_and_keeps_its_distance() -> None:
    stop, told = asyncio.Event(), list[ExportFinished]()

    class Moody:
        calls = 0
        worked = asyncio.Event()

        async def export(self) -> dict[str, object]:
            self.calls += 1
            if self.calls < 4:
                raise Transient("not now")
            self.worked.set()
            return {}

    target = Moody()
    exporter = Exporter(
        "s3", target, RetrySettings(attempts=2, initial_seconds=0.01, max_seconds=0.02), 0.3, told.append
    )
    work = asyncio.create_task(exporter.run(stop))
    exporter.wake()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await target.worked.wait()
    for _ in range(3):
        exporter.wake()
    await asyncio.sleep(0.05)
    assert target.calls == 4
    stop.set()
    await work
    assert target.calls == 5 and [event.outcome for event in told] == ["failed"] * 3 + ["done"] * 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["warehouse.mode=s3"],
        ["storage.bucket=b", "storage.backend=s3", "warehouse.mode=s3", "warehouse.path=x.duckdb"],
    ],
)
def test_a_mode_that_can_not_be_is_refused(overrides: list[str]) -> None:
    keys = {"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(ConfigError, match=r"needs storage\.backend|set no path"):
        load_settings(overrides=overrides, environ=keys)


async def test_over_https_the_certificate_of_the_operators_own_authority_is_checked(
    tmp_path: Path, s3_tls_server: S3Server
) -> None:
    storage = s3_tls_server.settings()
    async with open_analytics(tmp_path / "data", storage) as analytics:
        await analytics.layer.put_hour(8, *hour_of(8))
        await analytics.refresh()
        layer, upload = analytics.layer, tmp_path / "upload"
        await RemoteDatabase(layer.store, storage, [layer.layout], analytics.warehouse, upload).export()
        blind = storage.model_copy(update={"ca_bundle": None})
        with pytest.raises(Transient):
            await RemoteDatabase(layer.store, blind, [layer.layout], analytics.warehouse, upload).export()


def test_a_secret_is_quoted() -> None:
    settings = StorageSettings.model_validate(
        {"secret_access_key": "it's", "endpoint_url": "http://h:1", "bucket": "b"}
    )
    assert "SECRET 'it''s'" in secret_sql(settings) and "USE_SSL false" in secret_sql(settings)
