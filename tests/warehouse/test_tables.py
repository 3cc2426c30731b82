"""The tables of results: what they hold agrees with plain Python, over real snapshots and over hand-made ones."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bikeflow.core.layout import sealed_segment, segment_of
from bikeflow.core.schema import FLAGS
from bikeflow.settings.sections import StorageSettings, WarehouseSettings
from bikeflow.warehouse import Mirror, Warehouse
from bikeflow.warehouse.documentation import meanings
from bikeflow.warehouse.kept import LOOKS
from bikeflow.warehouse.statements import published
from tests.support.lines import raw_file, station
from tests.support.parquet import DAY, PARTITION, EnhancedLayer, at, row, snapshot
from tests.support.real import REAL
from tests.support.road import Road, open_road
from tests.support.wrm import wrm_day
from tests.warehouse import expected
from tests.warehouse.conftest import Analytics
from tests.warehouse.tables import assert_tables, keyed

NEXT_DAY = DAY + dt.timedelta(days=1)


@asynccontextmanager
async def travelled(data_dir: Path) -> AsyncIterator[tuple[Road, Analytics]]:
    """The road from raw files to the published database."""
    async with open_road(StorageSettings(), data_dir) as road:
        warehouse = Warehouse(WarehouseSettings(), data_dir, road.ledger.runs)
        yield road, Analytics(data_dir, EnhancedLayer(road.store, road.layout), Mirror(road.store, data_dir), warehouse)
        warehouse.close()


async def publish(road: Road, analytics: Analytics) -> None:
    await road.process()
    await analytics.mirror.sync(road.index.files.segment_objects())
    analytics.warehouse.refresh(analytics.mirror.files)


async def test_the_tables_agree_with_the_raw_text_of_real_snapshots(tmp_path: Path) -> None:
    files = {path.relative_to(REAL).as_posix(): path for path in sorted(REAL.glob("dt=*/*.txt"))}
    async with travelled(tmp_path / "data") as (road, analytics):
        await road.put_all({name: path.read_bytes() for name, path in files.items()})
        await publish(road, analytics)
        rows = [item for name, path in files.items() for item in expected.raw_rows(path, f"{road.layout.raw}{name}")]
        assert_tables(analytics, rows)
        assert analytics.query("SELECT count(*) FROM wrm_history") == [(len(rows),)]
        given = Counter(item["s3_source_key"] for item in rows)
        wanted = {key: (count, count, 0) for key, count in given.items()}
        assert keyed(analytics, "SELECT s3_source_key, lines, rows, rejected FROM pipeline_files") == wanted


async def test_a_state_lasts_until_the_next_observation_but_not_through_a_gap(analytics: Analytics) -> None:
    """Empty from 8:00 to 8:20, then bikes; a gap of 5 hours counts as half an hour, the newest state not at all."""
    await analytics.layer.put_hour(8, row("1", at(8), bikes=0), row("1", at(8, 20), bikes=3), row("1", at(8, 40)))
    await analytics.layer.put_hour(14, row("1", at(14), bikes=0, spaces=15))
    await analytics.refresh()
    assert analytics.query("SELECT known_seconds, share_empty, share_full FROM station_summary") == [
        (4200.0, 1200 / 4200, 0.0)
    ]


@pytest.mark.parametrize("hours", [(8, 9), (23, 24)])
async def test_a_state_lasts_across_the_border_of_segments_and_days(
    analytics: Analytics, hours: tuple[int, int]
) -> None:
    first, last = hours
    await analytics.layer.put_hour(first, row("1", at(first, 50), bikes=2, spaces=0))
    day = DAY + dt.timedelta(days=last // 24)
    await analytics.layer.put_hour(last % 24, row("1", at(last % 24, 5, day=day)), day=day)
    await analytics.refresh()
    wanted = [(900.0, 0.0, 1.0)]
    assert analytics.query("SELECT known_seconds, share_empty, share_full FROM station_summary") == wanted


async def test_months_are_joined_as_exactly_as_segments(analytics: Analytics) -> None:
    for day in (dt.date(2025, 5, 31), dt.date(2025, 6, 1), dt.date(2025, 12, 31), dt.date(2026, 1, 1)):
        for hour in (0, 23):
            rows = [row("1", at(hour, minute, day=day), bikes=minute % 3, spaces=minute % 2) for minute in (0, 17, 55)]
            await analytics.layer.put_hour(hour, *rows, *snapshot(at(hour, 30, day=day), "2"), day=day)
    await analytics.refresh()
    assert_tables(analytics, analytics.layer.rows)
    await analytics.layer.remove(segment_of(wrm_day(dt.date(2025, 5, 31)), at(23), 60))
    await analytics.layer.put_hour(0, row("1", at(0, 3, day=dt.date(2026, 1, 1)), bikes=0), day=dt.date(2026, 1, 1))
    await analytics.refresh()
    assert_tables(analytics, analytics.layer.rows)


async def test_a_raw_file_in_the_folder_of_another_day_counts_in_the_order_of_the_folders(analytics: Analytics) -> None:
    await analytics.layer.put_hour(0, row("1", at(3, day=NEXT_DAY), date=DAY, bikes=0), row("1", at(0), bikes=1))
    await analytics.layer.put_hour(1, row("1", at(1, day=NEXT_DAY)), day=NEXT_DAY)
    await analytics.refresh()
    assert_tables(analytics, analytics.layer.rows)


async def test_gaps_of_a_day_whose_snapshots_lie_in_two_folders_are_those_between_all_of_them(
    analytics: Analytics,
) -> None:
    await analytics.layer.put_hour(0, *snapshot(at(3, day=NEXT_DAY), "1", date=DAY))
    await analytics.layer.put_hour(1, *snapshot(at(1, day=NEXT_DAY), "1"), day=NEXT_DAY)
    await analytics.layer.put_hour(6, *snapshot(at(6, day=NEXT_DAY), "1"), day=NEXT_DAY)
    await analytics.refresh()
    assert_tables(analytics, analytics.layer.rows)
    gaps = analytics.query("SELECT longest_gap_seconds / 3600 FROM data_quality WHERE date = $1", NEXT_DAY)
    assert gaps == [(2.5,)]


async def test_silly_numbers_cost_neither_the_segment_nor_the_tables(analytics: Analytics) -> None:
    huge = 2**63 - 1
    rows = [row(str(n), at(8, minute), bikes=huge, spaces=huge) for n in (1, 2) for minute in (0, 10)]
    await analytics.layer.put_hour(
        8,
        *rows,
        *snapshot(at(8, 20), "3"),
        row("1", at(8, 20), bikes=huge, spaces=huge),
        row("2", at(8, 20), bikes=huge),
    )
    assert (await analytics.refresh()).damaged == ()
    assert analytics.query("SELECT max_bikes, mean_occupancy FROM station_summary WHERE station_id = '1'") == [
        (huge, 0.5)
    ]
    assert analytics.query("SELECT max(bike_count) FROM bike_density") == [(huge,)]


async def test_an_hour_that_segments_cut_is_one_row(analytics: Analytics) -> None:
    for minute in (0, 20, 40):
        await analytics.layer.put(segment_of(PARTITION, at(8, minute), 20), [row("1", at(8, minute + 5), bikes=minute)])
    await analytics.refresh()
    assert analytics.query("FROM station_hourly") == [
        ("1", DAY, 8, 3, 10.0, 0, 20, 8.0, 8, 8, DAY, 10, 2400.0, 0.0, 1200.0, 1200.0)
    ]


async def test_hourly_figures_of_a_day_read_the_files_of_that_day_only(analytics: Analytics) -> None:
    for day in (DAY, NEXT_DAY):
        await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1", "2"), day=day)
        await analytics.layer.seal(day)
    await analytics.refresh()
    question = f"SELECT * FROM station_hourly WHERE date = '{DAY}' AND station_id = '1'"
    ((_, plan),) = analytics.query(f"EXPLAIN (FORMAT json) {question}")
    assert {count for count, _ in re.findall(r"(\d)/(3)", plan)} == {"0", "1"} and "station_id='1'" in plan.replace(
        " ", ""
    )


async def test_what_was_kept_of_a_sealed_day_is_written_again_when_it_is_lost(analytics: Analytics) -> None:
    for day in (DAY, NEXT_DAY):
        await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1"), day=day)
        await analytics.layer.seal(day)
    await analytics.refresh()
    first, second = sorted(analytics.data_dir.glob("mirror/kept/*/station_changes/*/dt=2*/*.parquet"))
    again = analytics.reopened()
    first.unlink()
    second.write_bytes(second.read_bytes()[:-5])
    assert (await again.refresh()).read == 2
    assert_tables(again, again.layer.rows)
    again.warehouse.close()


async def test_what_was_kept_goes_with_the_file_that_it_was_made_of(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = LOOKS + 1
    for number in range(versions):
        await analytics.layer.put(sealed_segment(PARTITION), snapshot(at(8, number), "1"))
        await analytics.refresh()
    kept = "mirror/kept/*/station_changes/*/dt=2*/*.parquet"
    assert len(list(analytics.data_dir.glob(kept))) == versions
    monkeypatch.setattr("bikeflow.warehouse.mirror.RETAINED_BYTES", -1)
    await analytics.mirror.prune()
    await analytics.refresh()
    await analytics.refresh()  # it looks at some of them at a time
    assert [path.name for path in analytics.data_dir.glob(kept)] == [
        path.name for path in analytics.mirror.files.values()
    ]


async def test_a_cell_is_a_square_of_1000_square_metres_that_keeps_its_place(analytics: Analytics) -> None:
    places = [(51.0, 16.75), (51.109782, 17.030175), (51.2499, 17.2499)]
    for hour, shown in enumerate((places, places[1:])):
        rows = [row(str(n), at(hour), lat=lat, lon=lon) for n, (lat, lon) in enumerate(shown)]
        await analytics.layer.put_hour(hour, *rows)
        await analytics.refresh()
        assert_tables(analytics, analytics.layer.rows)
    cells = analytics.query(
        "SELECT grid_lat, grid_lon, min_lat, max_lat, min_lon, max_lon FROM bike_density ORDER BY 1"
    )
    assert len(cells) == 2
    for (lat, lon), (grid_lat, grid_lon, south, north, west, east) in zip(places[1:], cells, strict=True):
        assert south <= lat < north and west <= lon < east
        assert (grid_lat, grid_lon) == pytest.approx(((south + north) / 2, (west + east) / 2))
        # the series for WGS 84, another way than by the ellipsoid's radii
        phi = math.radians(grid_lat)
        metres = (
            111132.954 - 559.822 * math.cos(2 * phi) + 1.175 * math.cos(4 * phi),
            111412.84 * math.cos(phi) - 93.5 * math.cos(3 * phi) + 0.118 * math.cos(5 * phi),
        )
        height, width = (north - south) * metres[0], (east - west) * metres[1]
        assert height == pytest.approx(31.6228, abs=0.002) and width == pytest.approx(31.6228, abs=0.002)


async def test_only_the_newest_snapshot_inside_the_service_area_is_counted(analytics: Analytics) -> None:
    odd = row("x", at(9), record_type="unknown")
    warsaw = row("fb2", at(9), lat=52.23, lon=21.01, quality_flags=["outside_service_area"])
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"))
    await analytics.layer.put_hour(9, *snapshot(at(9), "1", "fb1", "fb3", bikes=1), odd, warsaw)
    await analytics.refresh()
    found = analytics.query("SELECT bike_count, station_count, mobile_bike_count, stations FROM bike_density")
    assert found == [(3, 1, 2, ["1"])]


async def test_every_published_object_and_column_is_described(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.refresh()
    everything = (
        "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns()"
        " WHERE schema_name IN ('main', 'wrm_analytics') AND NOT internal"
    )
    columns = {tuple(place): (kind, comment) for *place, kind, comment in analytics.query(everything)}
    told = analytics.query(
        "SELECT schema_name, object, column_name, data_type, description FROM main.catalog WHERE column_name NOT NULL"
    )
    assert [place for *place, _, text in told if not (text or "").endswith(".")] == []
    assert {tuple(place): (kind, text) for *place, kind, text in told} == columns
    objects = analytics.query("SELECT schema_name, object FROM main.catalog WHERE column_name IS NULL")
    assert set(objects) == {place[:2] for place in columns}
    own = analytics.query("SELECT object FROM catalog WHERE column_name IS NULL")
    assert {name for (name,) in own} == {name for schema, name in objects if schema == "wrm_analytics"}


def test_no_meaning_is_left_of_a_column_that_is_gone() -> None:
    named = {table for table, _ in meanings() if table}
    assert named <= {item.name for item in published()}


async def test_files_and_quality_tell_of_every_line_also_of_files_that_gave_no_row(tmp_path: Path) -> None:
    async with travelled(tmp_path / "data") as (road, analytics):
        mixed = await road.put_raw(
            f"dt={DAY}/wrm_stations_{DAY}_08-10-00.txt", raw_file(station(1), station(2, lon="nowhere"))
        )
        rubbish = await road.put_raw(f"dt={DAY}/wrm_stations_{DAY}_08-20-00.txt", raw_file(station(1, lon="x")))
        alone = await road.put_raw(
            f"dt={DAY}/wrm_stations_{DAY}_12-00-00.txt", raw_file(station(1, lon="x"), station(2, lon="x"))
        )
        await publish(road, analytics)
        files = "SELECT s3_source_key, date, file_timestamp, lines, rows, rejected, stations FROM pipeline_files"
        assert keyed(analytics, files) == {
            mixed: (DAY, at(8, 10).replace(tzinfo=None), 2, 1, 1, 1),
            rubbish: (DAY, at(8, 20).replace(tzinfo=None), 1, 0, 1, 0),
            alone: (DAY, at(12).replace(tzinfo=None), 2, 0, 2, 0),
        }
        quality = "SELECT date, files, lines, rows, rejected, share_rejected FROM data_quality"
        assert analytics.query(quality) == [(DAY, 3, 5, 1, 4, 0.8)]
        await road.store.delete(alone)
        await road.store.delete(rubbish)
        await publish(road, analytics)
        assert analytics.query(quality) == [(DAY, 1, 2, 1, 1, 0.5)]
        await road.put_raw(f"dt={DAY}/wrm_stations_{DAY}_08-10-00.txt", raw_file(station(1), station(2)))
        await publish(road, analytics)
        assert analytics.query(quality) == [(DAY, 1, 2, 2, 0, 0.0)]


async def test_a_file_that_waits_is_listed_but_not_counted(tmp_path: Path) -> None:
    async with travelled(tmp_path / "data") as (road, analytics):
        key = await road.put_raw(f"dt={DAY}/wrm_stations_{DAY}_08-10-00.txt", raw_file(station(1)))
        await road.reconciler.reconcile()
        await analytics.mirror.sync(())
        analytics.warehouse.refresh(analytics.mirror.files)
        assert analytics.query("SELECT s3_source_key, lines FROM pipeline_files") == [(key, None)]
        assert analytics.query("FROM data_quality") == []


async def test_runs_are_those_of_the_ledger_newest_first_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.warehouse.facts.KEPT", 3)
    async with travelled(tmp_path / "data") as (road, analytics):
        for hour in range(5):
            await road.put_raw(
                f"dt={DAY}/wrm_stations_{DAY}_{hour:02}-10-00.txt", raw_file(station(1), station(2, lon="x"))
            )
            await publish(road, analytics)
        runs = [event.run for event in road.finished]
        wanted = [
            (run.run_id, DAY, "done", 1, 1, 2, 1, 1, None, list(run.traces), run.finished_at.replace(tzinfo=None))
            for run in reversed(runs[-3:])
        ]
        columns = "run_id, date, outcome, segments, files, lines, rows, rejected, error, traces, finished_at"
        assert analytics.query(f"SELECT {columns} FROM pipeline_runs") == wanted
        analytics.warehouse.refresh(analytics.mirror.files)
        assert analytics.query(f"SELECT {columns} FROM pipeline_runs") == wanted


async def test_every_object_comes_from_the_feed_in_the_end(analytics: Analytics) -> None:
    await analytics.refresh()
    edges = analytics.query("SELECT object, source FROM lineage")
    names = [name for (name,) in analytics.query("SELECT DISTINCT object FROM main.catalog")]
    of_itself = {"catalog", "lineage"}
    for name in set(names) - of_itself:
        reached = {name}
        while added := {source for made, source in edges if made in reached} - reached:
            reached |= added
        assert "feed" in reached, name
    assert ("station_spans", "open_spans") in edges and ("station_changes", "open_station_changes") in edges
    assert ("wrm_history", "history") in edges and ("wrm_stations_latest", "stations_latest") in edges
    assert not [edge for edge in edges if edge[0] == edge[1]]


def test_every_flag_is_counted_in_data_quality() -> None:
    (quality,) = (item for item in published() if item.name == "data_quality")
    assert all(f"AS {flag}" in quality.sql for flag in FLAGS)
