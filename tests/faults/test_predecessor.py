"""The faults of the pipeline that bikeflow replaces, one by one: each test shows that bikeflow does not have it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import UTC, PartitionJob
from bikeflow.ingest import Delivery, Fetcher
from bikeflow.ingest.spool import Spool
from bikeflow.ingest.upstream import Connections, Upstream
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.watcher import Watcher
from bikeflow.ledger import Ledger
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, RetrySettings, StorageSettings
from bikeflow.store import open_store
from tests.support import feedserver
from tests.support.lines import HEADER, bike, raw_file, station
from tests.support.pipelines import whole_road, wrm_lane
from tests.support.road import Road, open_road
from tests.support.s3server import S3Server
from tests.support.wrm import wrm, wrm_layout

MANY_FILES = 1_050
"""More than one page of a listing (1,000 keys)."""
FIRST = dt.datetime(2025, 6, 1, 18, tzinfo=UTC)
ONCE = RetrySettings(attempts=1, initial_seconds=0.01, max_seconds=0.05)


def name(time: str, day: str = "2025-06-01") -> str:
    return f"dt={day}/wrm_stations_{day}_{time}.txt"


def short(time: str) -> str:
    return name(time).split("/")[1]


def watcher_of(road: Road) -> tuple[Watcher, PartitionQueue]:
    """A watcher over the road's store, and the queue that it fills."""
    queue = PartitionQueue(64)
    return road.watcher(queue), queue


async def work_off(road: Road, queue: PartitionQueue) -> int:
    """Process what waits in the queue; returns how many rows the runs gave."""
    rows = 0
    while queue.waiting:
        job = await queue.get()
        assert job is not None
        run = await road.processor.process(job)
        rows += run.rows if run else 0
        await queue.done(job)
    return rows


def same_second(road: Road, *keys: str) -> None:
    """Give objects of the local lake the same LastModified."""
    for key in keys:
        path = road.store.local_path(key)
        assert path is not None
        os.utime(path, (FIRST.timestamp(), FIRST.timestamp()))


async def test_a_file_of_today_is_processed_at_once_and_holds_nothing_else_up(road: Road) -> None:
    today = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    await road.store.put(road.layout.raw_key(today), raw_file(station(1), station(2)).encode())
    await road.put_raw(name("18-10-00"), raw_file(station(1)))
    watcher, queue = watcher_of(road)
    assert len(await watcher.poll()) == 2
    assert await work_off(road, queue) == 3


async def test_a_run_that_failed_is_tried_again_by_itself_until_it_works(road: Road) -> None:
    blocker = f"{road.layout.prefix}enhanced/all/dt=2025-06-01/all_enhanced_20250601_185959.parquet"
    await road.store.put(blocker, foreign_parquet())
    await road.put_raw(name("18-10-00"), raw_file(station(1), station(2)))
    (failed,) = await road.process()
    assert failed.outcome == "failed"
    await road.store.delete(blocker)
    later = dt.datetime.now(UTC) + dt.timedelta(hours=1)
    (due,) = road.index.files.dirty_partitions(later)
    again = await road.processor.process(PartitionJob(due))
    assert again is not None and (again.outcome, again.rows) == ("done", 2)
    assert road.index.files.dirty_partitions(later) == []


async def test_of_two_files_with_the_same_whole_second_of_last_modified_both_are_seen(road: Road) -> None:
    watcher, queue = watcher_of(road)
    first = await road.put_raw(name("18-10-00"), raw_file(station(1)))
    same_second(road, first)
    assert [file.key for file in await watcher.poll()] == [first]
    for at in ("18-10-01", "18-09-59"):  # before and behind the one that is known
        second = await road.put_raw(name(at), raw_file(station(1), station(2)))
        same_second(road, second)
        assert [file.key for file in await watcher.poll()] == [second]
    assert await work_off(road, queue) == 5


@pytest.fixture(scope="module")
def archive(s3_server: S3Server) -> Iterator[StorageSettings]:
    """A bucket with more raw files than one page of a listing holds; each tells its number in its only row."""
    storage = s3_server.settings()
    layout, client = wrm_layout(storage.prefix), s3_server.client()

    def put(number: int) -> None:
        at = FIRST + dt.timedelta(seconds=3 * number)
        client.put_object(Bucket=storage.bucket, Key=layout.raw_key(at), Body=document(number).encode())

    put(0)  # rclone answers 500 now and then to the first puts below a new prefix when they come together
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(1, MANY_FILES)))
    yield storage


def document(number: int) -> str:
    return raw_file(station(1, bikes=str(number), total_docks="5000"))


async def test_beyond_a_thousand_keys_every_file_is_found_and_processed_and_so_is_the_next(
    archive: StorageSettings, tmp_path: Path
) -> None:
    async with open_road(archive, tmp_path) as road:
        runs = await road.process()
        assert [(run.files, run.rows) for run in runs] == [(MANY_FILES, MANY_FILES)]
        assert sorted(int(str(row["bikes"])) for row in await road.rows("enhanced")) == list(range(MANY_FILES))
        watcher, queue = watcher_of(road)
        assert await watcher.poll() == []
        key = road.layout.raw_key(FIRST + dt.timedelta(seconds=3 * MANY_FILES))
        await road.store.put(key, document(MANY_FILES).encode())
        assert [file.key for file in await watcher.poll()] == [key]
        await work_off(road, queue)
        assert len(await road.rows("enhanced")) == MANY_FILES + 1
        await road.store.delete(key)  # other tests use the archive as well


@pytest.mark.parametrize(
    ("number", "outcome"), [(MANY_FILES - 1, "duplicate"), (999, "stored")], ids=["the newest", "the thousandth"]
)
async def test_beyond_a_thousand_keys_the_duplicate_check_compares_with_the_newest_file(
    archive: StorageSettings, tmp_path: Path, number: int, outcome: str
) -> None:
    """A fetcher that remembers nothing, at an archive that others have filled."""
    layout = wrm_layout(archive.prefix)
    async with feedserver.serve() as server, open_store(archive, tmp_path) as store:
        server.answers(feedserver.document(document(number)))
        spool = await Spool.open(tmp_path / "spool", 1_000_000)
        delivery = Delivery(store, layout, spool, ONCE)
        with Ledger(tmp_path, [layout], 60) as ledger:
            system, memory = wrm(FeedSettings(url=server.url)), ledger.systems[layout.system_id]
            async with Connections(1) as connections:
                upstream = Upstream(system.feed, ONCE, connections)
                fetcher = Fetcher(system, upstream, delivery, memory, clock=lambda: FIRST + dt.timedelta(hours=2))
                assert (await fetcher.fetch_once()).outcome == outcome


async def test_a_failed_listing_is_an_error_and_not_nothing_new(road: Road, tmp_path: Path) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1)))
    watcher, queue = watcher_of(road)
    await watcher.poll()
    lake = tmp_path / "lake"
    lake.rename(tmp_path / "away")
    for look in (watcher.poll, road.reconciler.reconcile):
        with pytest.raises(BikeflowError):
            await look()
    stop = asyncio.Event()
    running = asyncio.create_task(watcher.run(stop))
    for _ in range(1_000):
        if watcher.fault is not None:
            break
        await asyncio.sleep(0.01)
    assert watcher.fault is not None
    assert watcher.last_poll_at is None
    stop.set()
    await running
    (tmp_path / "away").rename(lake)
    late = await road.put_raw(name("18-20-00"), raw_file(station(1)))
    assert [file.key for file in await watcher.poll()] == [late]
    assert await work_off(road, queue) == 2


async def test_a_listing_that_a_server_refuses_is_an_error_too(archive: StorageSettings, tmp_path: Path) -> None:
    wrong = archive.model_copy(update={"bucket": "bikeflow-test-nowhere"})
    async with open_road(wrong, tmp_path) as road:
        watcher, _ = watcher_of(road)
        for look in (watcher.poll, road.reconciler.reconcile):
            with pytest.raises(BikeflowError, match="no such bucket"):
                await look()
        assert road.index.files.reconciled_at() is None


async def test_battery_levels_are_kept_beside_the_boolean_that_shares_their_column(road: Road) -> None:
    served = ["true", "false", "", "-1", "0", "57", "100", "101", "57.5"]
    await road.put_raw(name("18-10-00"), raw_file(*[bike(number, battery=text) for number, text in enumerate(served)]))
    known = [bike(number, battery=str(number)) for number in range(91)]
    unknown = [bike(number, battery="-1") for number in range(91, 513)]
    await road.put_raw(name("19-10-00"), raw_file(*known, *unknown))
    await road.process()
    rows = sorted(await road.rows("enhanced"), key=lambda row: int(str(row["station_id"])[2:]))
    small, large = ([r for r in rows if short(at) in str(r["s3_source_key"])] for at in ("18-10-00", "19-10-00"))
    assert [row["battery_level"] for row in small] == [None, None, None, None, 0, 57, 100, None, None]
    assert [row["givesbonus_acceptspedelecs_fbbattlevel"] for row in small] == [True, *[False] * 8]
    assert [row["battery_level"] for row in large] == [*range(91), *[None] * 422]


@pytest.mark.parametrize("packed", ["1748699405|-7200", "1748699405|-7200|-3600|0", "1748699405", "", "a|b|c"])
async def test_a_packed_field_that_does_not_split_is_a_dead_letter_and_not_silence(road: Road, packed: str) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1), station(2, packed=packed), station(3)))
    (run,) = await road.process()
    assert (run.lines, run.rows, run.rejected) == (3, 2, 1)
    (content,) = (await road.objects("dlq/")).values()
    (letter,) = [json.loads(line) for line in content.splitlines()]
    assert (letter["check"], letter["line_number"], letter["value"]) == ("packed", 3, packed)
    assert letter["raw_line"] == station(2, packed=packed)


GOOD = raw_file(station(1), station(2, name="Główny"), station(3))
ODD_FILES: dict[str, tuple[bytes, int, int]] = {
    "a blank line": (GOOD.replace("\n", "\n\n").encode(), 3, 0),
    "an empty number": (raw_file(station(1), station(2, bikes=""), station(3)).encode(), 2, 1),
    "an extra column": (
        raw_file(*[f"{station(n)},x" for n in (1, 2, 3)], header=f"{HEADER},colour").encode(), 3, 0,
    ),
    "an extra field in a line": (raw_file(station(1), f"{station(2)},x", station(3)).encode(), 2, 1),
    "a latin-1 byte": (GOOD.replace("Główny", "Gdańsk").encode("latin-1", "replace") + b"\xf3dd,x\n", 3, 1),
    "a latin-1 byte in a name": (GOOD.encode().replace("Główny".encode(), b"Gr\xf3dek"), 3, 0),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), 3, 0),
    "a truncated last line": (GOOD.encode()[:-30], 2, 1),
    "an HTML page": (b"<!DOCTYPE html>\n<html><body>502</body></html>\n", 0, 1),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_FILES)
async def test_an_odd_file_costs_no_more_than_its_bad_lines_and_never_its_neighbours(road: Road, odd: str) -> None:
    content, rows, rejected = ODD_FILES[odd]
    await road.put_all({name("18-10-00"): content, name("18-20-00"): GOOD.encode()})
    (run,) = await road.process()
    assert (run.outcome, run.lines, run.rows, run.rejected) == ("done", rows + rejected + 3, rows + 3, rejected)
    assert await road.row_counts() == ({short("18-10-00"): rows} if rows else {}) | {short("18-20-00"): 3}
    assert (await road.verify()).findings == []


@pytest.mark.parametrize(
    "changes",
    [{"bikes": "-1"}, {"total_docks": "0"}, {"locked": "True"}, {"lat": "NaN"}, {"lon": "nan"}, {"bikes": "inf"}],
    ids=lambda changes: "=".join(*changes.items()),
)
async def test_one_bad_row_never_fails_the_partition(road: Road, changes: dict[str, str]) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1), station(2, **changes), station(3)))
    await road.put_raw(name("19-10-00"), raw_file(station(1)))
    (run,) = await road.process()
    assert (run.outcome, run.segments, run.lines, run.rows, run.rejected) == ("done", 2, 4, 3, 1)
    assert sorted(str(row["station_id"]) for row in await road.rows("enhanced")) == ["1", "1", "3"]


def settings_for(data_dir: Path, url: str) -> Settings:
    return Settings(data_dir=data_dir, feed=FeedSettings(url=url), retry=ONCE)


async def test_curly_quotes_are_stored_as_they_were_served_and_break_no_field(tmp_path: Path) -> None:
    served = raw_file(station(1, name='"Dworzec „Rynek” 1, południe"'), station(2, name="„Rynek” 1"))
    async with feedserver.serve() as server, open_pipeline(settings_for(tmp_path, server.url)) as pipeline:
        server.answers(feedserver.document(served))
        assert (await wrm_lane(pipeline).fetcher.fetch_once()).outcome == "stored"
        assert await wrm_lane(pipeline).delivery.drain()
        (info,) = [info async for page in pipeline.shared.store.pages(wrm_lane(pipeline).layout.raw) for info in page]
        assert (await pipeline.shared.store.get(info.key)).data == served.encode()
        await whole_road(pipeline)
        names = query(pipeline, "SELECT name FROM wrm_analytics.wrm_stations_latest ORDER BY station_id")
        assert names == [("Dworzec „Rynek” 1, południe",), ("„Rynek” 1",)]


async def test_running_again_multiplies_rows_neither_in_the_views_nor_in_a_plain_glob(tmp_path: Path) -> None:
    async with open_pipeline(settings_for(tmp_path, "http://127.0.0.1:9/")) as pipeline:
        lane = wrm_lane(pipeline)
        for minute in (10, 20, 30):
            at = FIRST.replace(minute=minute)
            text = raw_file(station(1), station(2), bike(3))
            await pipeline.shared.store.put(lane.layout.raw_key(at), text.encode())
        for _ in range(3):
            lane.index.files.write_again(dt.date.min, dt.date.max)
            await whole_road(pipeline)
            assert query(pipeline, "SELECT count(*) FROM wrm_analytics.wrm_stations_enhanced_data") == [(9,)]
            assert query(pipeline, "SELECT count(*) FROM wrm_analytics.wrm_stations_only") == [(6,)]
            for layer in ("processed", "enhanced"):
                glob = tmp_path / "lake" / lane.layout.layer(layer) / "**/*.parquet"
                assert duckdb.sql(f"SELECT count(*) FROM '{glob}'").fetchall() == [(9,)]


def query(pipeline: Pipeline, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(pipeline.database_path, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def foreign_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"station_id": ["1"]}), sink)
    return bytes(sink.getvalue().to_pybytes())
