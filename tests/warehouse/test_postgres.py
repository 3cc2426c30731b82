"""The tables in a real PostgreSQL: the same rows as in the published database, and only what changed is written."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.events import Events
from bikeflow.core.layout import segment_of
from bikeflow.core.model import Event, ExportFinished
from bikeflow.service.pipeline import open_pipeline
from bikeflow.settings import Settings, load_settings
from bikeflow.settings.sections import PostgresSettings
from bikeflow.warehouse.postgres import PostgresTables
from tests.support import postgres
from tests.support.lines import bike, raw_file, station
from tests.support.parquet import DAY, PARTITION, at, row, snapshot
from tests.support.pipelines import process_dirty, wrm_lane
from tests.support.wrm import wrm_layout
from tests.warehouse.conftest import Analytics, open_analytics

TABLES = ("wrm_stations_latest", "wrm_bikes_latest", "station_hourly")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with postgres.postgres(binaries) as dsn:
        yield dsn


@dataclass
class Both:
    """A lake with its published database, and its tables in PostgreSQL."""

    analytics: Analytics
    dsn: str
    tables: PostgresTables
    schema: str

    async def publish(self) -> dict[str, object]:
        await self.analytics.refresh()
        return await self.tables.export()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return connection.execute(sql.encode()).fetchall()

    def connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.dsn, options=f'-c search_path="{self.schema}"')

    def assert_same(self) -> None:
        for table in TABLES:
            order = "station_id" if table != "station_hourly" else "station_id, date, hour"
            there = {tuple(item) for item in map(_hashable, self.ask(f"SELECT * FROM {table} ORDER BY {order}"))}
            here = {tuple(item) for item in map(_hashable, self.analytics.query(f"FROM {table} ORDER BY {order}"))}
            assert there == here, table


def _hashable(values: tuple[Any, ...]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in values]


@pytest.fixture
async def both(tmp_path: Path, server: str, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    schema = f"Ours-{request.node.name[:40]}"
    settings = PostgresSettings(dsn=SecretStr(server), schema_name=schema)
    async with open_analytics(tmp_path / "data") as analytics:
        tables = PostgresTables(settings, analytics.warehouse, tmp_path / "export")
        yield Both(analytics, server, tables, schema)


async def test_the_tables_follow_the_published_database(both: Both) -> None:
    layer = both.analytics.layer
    assert await both.tables.export() == {}
    await layer.put_hour(
        8, *snapshot(at(8), "1", "2", "fb1", name="Rynek\0 „Ż” \\N\t'", quality_flags=["over_capacity"])
    )
    await both.publish()
    assert both.ask("SELECT name, quality_flags FROM wrm_bikes_latest") == [
        ("Rynek\ufffd „Ż” \\N\t'", ["over_capacity"])
    ]
    await layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"), *snapshot(at(8, 30), "1", "3", "fb2", bikes=2))
    await layer.put_hour(9, *snapshot(at(9, day=DAY - dt.timedelta(1)), "1"), day=DAY - dt.timedelta(1))
    assert (await both.publish())["days"] == 2
    both.assert_same()


async def test_only_days_that_changed_are_written_and_rows_that_are_gone_are_deleted(both: Both) -> None:
    layer, before = both.analytics.layer, DAY - dt.timedelta(1)
    await layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"))
    await layer.put_hour(8, *snapshot(at(8, day=before), "1", "9"), day=before)
    assert (await both.publish())["days"] == 2
    versions = "SELECT station_id, date, xmin::text FROM station_hourly ORDER BY 1, 2"
    first = both.ask(versions)
    await layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"), row("1", at(8, 10), bikes=1), row("fb2", at(8, 10)))
    assert (await both.publish())["days"] == 1
    both.assert_same()
    changed = {key[:2] for key in set(both.ask(versions)) - set(first)}
    assert changed == {("1", DAY), ("2", DAY)}, "station 2 is gone from 8:10 on"
    await layer.remove(segment_of(PARTITION, at(8), 60))
    assert (await both.publish())["days"] == 2, "coverage ends with the day before now"
    both.assert_same()
    assert both.ask("SELECT DISTINCT date FROM station_hourly") == [(before,)]
    assert (await both.publish())["days"] == 0


async def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(both: Both) -> None:
    await both.analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await both.publish()
    with both.connected() as connection:
        connection.execute("ALTER TABLE wrm_bikes_latest DROP COLUMN battery_level")
    await both.publish()
    assert both.ask("SELECT battery_level FROM wrm_bikes_latest") == [(55,)]


async def test_a_server_that_is_away_is_transient_and_one_that_refuses_is_not(both: Both, server: str) -> None:
    await both.analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await both.analytics.refresh()
    away = PostgresSettings(dsn=SecretStr("postgresql://me:secret@127.0.0.1:9/x"))
    with pytest.raises(Transient, match="PostgreSQL") as caught:
        await PostgresTables(away, both.analytics.warehouse, both.analytics.data_dir / "p").export()
    assert "secret" not in str(caught.value)
    with psycopg.connect(server) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    for dsn, reason in ((server.replace("tester", "guest"), "permission denied"), ("hunter2", "no connection string")):
        refused = PostgresSettings(dsn=SecretStr(dsn))
        with pytest.raises(Permanent, match=reason) as told:
            await PostgresTables(refused, both.analytics.warehouse, both.analytics.data_dir / "p").export()
        assert "hunter2" not in f"{told.value}{told.value.__context__}"


async def test_a_kept_file_that_is_gone_costs_an_attempt_and_not_the_service(both: Both) -> None:
    await both.analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await both.analytics.layer.seal()
    await both.analytics.refresh()
    (file,) = both.analytics.data_dir.glob("mirror/kept/*/station_changes/*/dt=2*/*.parquet")
    file.unlink()
    with pytest.raises(Transient, match="reading the database"):
        await both.tables.export()


async def test_the_pipeline_exports_what_it_publishes(tmp_path: Path, server: str) -> None:
    postgres_settings = PostgresSettings(dsn=SecretStr(server), schema_name="piped")
    stop = asyncio.Event()
    async with open_pipeline(Settings(data_dir=tmp_path, postgres=postgres_settings)) as pipeline:
        (exporter,) = pipeline.shared.exporters
        key = wrm_lane(pipeline).layout.raw_key(at(8))
        await pipeline.shared.store.put(key, raw_file(station(1), bike(1)).encode())
        await pipeline.reconcile()
        await process_dirty(pipeline)
        work = asyncio.create_task(exporter.run(stop))
        await pipeline.shared.refresher.refresh_once()
        stop.set()
        await work
    with psycopg.connect(server) as connection:
        assert connection.execute("SELECT station_id FROM piped.wrm_bikes_latest").fetchall() == [("fb1",)]


PACKED = "{}|-7200|-3600"
OLDEST = -210_866_803_200
"""4714-11-24 BC, the first instant that PostgreSQL can hold (its manual says 4713 BC, of the Julian calendar)."""
ODD_LINES = [
    station(1),
    bike(2, name="BIKE \0 2"),
    bike(3, packed=PACKED.format(OLDEST)),
    bike(4, packed=PACKED.format(OLDEST - 1)),
    station(5, packed=PACKED.format(-63_517_787_327.5)),
    station(6, packed=PACKED.format(9_223_372_036_854)),
    bike(7, id="fb7\0"),
    bike(7, id="fb7\ufffd"),
    station(8, packed=PACKED.format(-9_000_000_000_000)),
    bike(9, id="fb" + "".join(chr(0x4E00 + number) for number in range(2_000))),
]


async def test_rows_that_postgresql_cannot_hold_are_left_out_counted_and_told(tmp_path: Path, server: str) -> None:
    postgres_settings = PostgresSettings(dsn=SecretStr(server), schema_name="odd")
    told = list[Event]()
    events = Events()
    with events.heard_by(told.append), psycopg.connect(server, autocommit=True) as connection:

        def ids(table: str) -> set[str]:
            query = psycopg.sql.SQL("SELECT DISTINCT station_id FROM odd.{}").format(psycopg.sql.Identifier(table))
            return {str(row[0]) for row in connection.execute(query)}

        async with open_pipeline(Settings(data_dir=tmp_path, postgres=postgres_settings), events) as pipeline:
            await pipeline.shared.store.put(wrm_layout().raw_key(at(8)), raw_file(*ODD_LINES).encode())
            await pipeline.reconcile()
            await process_dirty(pipeline)
            with capture_logs() as logs:
                for _ in range(2):
                    await pipeline.publish()
            assert pipeline.shared.ledger.totals()["rows"] == len(ODD_LINES)
            assert ids("wrm_stations_latest") == {"1", "5", "6"}
            assert ids("wrm_bikes_latest") == {"fb2", "fb3", "fb7\ufffd"}
            assert ids("station_hourly") == {"1", "5", "6", "8"}
            # bikes 4, 7 with its NUL and 9; station 8; no bike is in station_hourly
            finished = [event for event in told if isinstance(event, ExportFinished)]
            assert [(event.outcome, event.skipped_rows) for event in finished] == [("done", 4)] * 2
            assert [log["rows"] for log in logs if log["event"] == "rows_not_exported"] == [4]
            assert [log["skipped_rows"] for log in logs if log["event"] == "exported"] == [4, 4]


async def test_hours_that_were_left_out_stay_counted_until_their_day_changes(both: Both) -> None:
    layer, before = both.analytics.layer, DAY - dt.timedelta(1)
    odd = [row("1\0", at(8, day=before)), row("1\ufffd", at(8, day=before))]
    await layer.put_hour(8, *odd, day=before)
    await layer.put_hour(8, *snapshot(at(8), "1"))
    assert (await both.publish())["skipped_rows"] == 1
    await layer.put_hour(9, *snapshot(at(9), "1"))
    assert (await both.publish())["skipped_rows"] == 1
    assert both.ask("SELECT date, skipped_rows FROM exported_days ORDER BY date") == [(before, 1), (DAY, 0)]
    await layer.put_hour(8, *odd[1:], day=before)
    assert (await both.publish())["skipped_rows"] == 0
    both.assert_same()


async def test_a_database_that_cannot_hold_polish_names_is_refused_and_ends_nothing(both: Both, server: str) -> None:
    await both.analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await both.analytics.refresh()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    latin = PostgresSettings(dsn=SecretStr(server.replace("/postgres", "/latin")))
    with pytest.raises(Permanent, match="LATIN1"):
        await PostgresTables(latin, both.analytics.warehouse, both.analytics.data_dir / "p").export()


def test_older_names_in_the_environment_describe_the_connection() -> None:
    environ = {"POSTGRES_HOST": "db", "POSTGRES_PASSWORD": r"it's\me", "POSTGRES_DB": "bikes", "POSTGRES_USER": "ania"}
    dsn = load_settings(environ=environ).settings.postgres.dsn.get_secret_value()
    told = psycopg.conninfo.conninfo_to_dict(dsn)
    assert told == {"host": "db", "password": r"it's\me", "dbname": "bikes", "user": "ania"}
    assert load_settings(environ={"POSTGRES_USER": "ania"}).settings.postgres.dsn.get_secret_value() == ""
