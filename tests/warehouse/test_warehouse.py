"""The published database: what its objects hold, that it is refreshed by segment, and that it heals."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikeflow.core.errors import ConfigError, Permanent, Transient
from bikeflow.core.layout import segment_of
from bikeflow.core.schema import ENHANCED
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse import Warehouse
from bikeflow.warehouse.statements import COMPATIBLE, SCHEMA, compatible, derived, macros, merges, published, readings
from tests.support.parquet import DAY, PARTITION, Row, at, parquet, row, snapshot
from tests.support.rounds import rounds
from tests.support.wrm import wrm_day
from tests.warehouse import expected
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.tables import assert_tables

VIEWS = ["wrm_history", "wrm_stations_enhanced_data", "wrm_stations_only", "wrm_bikes_only"]
LATEST = ["wrm_stations_latest", "wrm_bikes_latest"]
NEXT_DAY = DAY + dt.timedelta(days=1)


def tuples(rows: list[Row]) -> list[tuple[Any, ...]]:
    return sorted((tuple(item.values()) for item in rows), key=repr)


def assert_published(analytics: Analytics, now: dt.datetime = expected.FOREVER) -> None:
    """Every object agrees with plain Python over the same rows."""
    rows = analytics.layer.rows
    newest = expected.newest(expected.counted(rows, now))
    wanted = {
        "wrm_history": rows,
        "wrm_stations_enhanced_data": rows,
        "wrm_stations_only": [r for r in rows if r["record_type"] == "station"],
        "wrm_bikes_only": [r for r in rows if r["record_type"] == "bike"],
        "wrm_stations_latest": [r for r in newest if r["record_type"] == "station"],
        "wrm_bikes_latest": [r for r in newest if r["record_type"] == "bike"],
    }
    with analytics.reading():
        for name, found in wanted.items():
            assert sorted(analytics.query(f"FROM {name}"), key=repr) == tuples(found), name
        assert_tables(analytics, rows, now)


async def test_an_empty_lake_gives_all_objects_without_rows(analytics: Analytics) -> None:
    refresh = await analytics.refresh()
    assert (refresh.read, refresh.published.rows, refresh.published.newest_snapshot) == (0, 0, None)
    for name in VIEWS + LATEST:
        assert analytics.query(f"SELECT count(*) FROM {name}") == [(0,)]
        columns = analytics.query(f"SELECT column_name FROM (DESCRIBE {name})")
        assert [column for (column,) in columns] == ENHANCED.names


async def test_the_objects_hold_what_the_contract_says(either: Analytics) -> None:
    await either.layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1", "fb2"), *snapshot(at(8, 10), "1", "fb2", "x"))
    await either.layer.put_hour(9, *snapshot(at(9), "2", "fb3", quality_flags=["over_capacity"]))
    refresh = await either.refresh()
    assert refresh.published.newest_snapshot == at(9)
    assert (refresh.read, refresh.published.rows) == (1, 9)
    assert (refresh.published.stations, refresh.published.bikes) == (1, 1)
    assert_published(either)


async def test_databases_that_are_opened_anew_now_and_then_go_on_where_they_were(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.warehouse.warehouse.REOPENED_AFTER", 3)
    template = analytics.data_dir / "warehouse/template.duckdb"
    rows: list[Row] = []
    made = set()
    for hour in (8, 9):
        rows.clear()
        for minute in range(4):
            rows += snapshot(at(hour, minute), "1", "2", f"fb{minute}")
            await analytics.layer.put_hour(hour, *rows)
            refresh = await analytics.refresh()
            assert (refresh.read, refresh.removed) == (1, 0)
            assert_published(analytics)
            made.add(template.stat().st_mtime_ns)
    assert len(made) == 3  # it is made when the databases are opened


async def test_types_are_those_of_the_enhanced_layer(analytics: Analytics) -> None:
    segment = await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    file = analytics.layer.store.local_path(segment.key)
    own = duckdb.execute(
        "SELECT column_type FROM (DESCRIBE FROM read_parquet($1, hive_partitioning = false))", [str(file)]
    ).fetchall()
    for name in VIEWS + LATEST:
        assert analytics.query(f"SELECT column_type FROM (DESCRIBE {name})") == own


@pytest.mark.parametrize("name", ["wrm_stations_enhanced_data", "wrm_stations_only"])
async def test_history_comes_newest_first(analytics: Analytics, name: str) -> None:
    for hour in (8, 10, 9):
        await analytics.layer.put_hour(hour, *snapshot(at(hour), "1", "2"), *snapshot(at(hour, 30), "3"))
    await analytics.refresh()
    times = analytics.query(f"SELECT file_timestamp, timestamp FROM {name}")
    assert times == sorted(times, reverse=True)
    assert analytics.query(f"SELECT station_id FROM {name} LIMIT 1") == [("3",)]


async def test_a_filter_on_date_reads_the_files_of_that_day_only(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.layer.put_hour(9, *snapshot(at(9), "1"))
    await analytics.layer.put_hour(8, *snapshot(at(8, day=NEXT_DAY), "1"), day=NEXT_DAY)
    await analytics.refresh()
    for name in VIEWS:
        ((_, plan),) = analytics.query(f"EXPLAIN SELECT avg(bikes) FROM {name} WHERE date = '{DAY}'")
        assert "Scanning Files: 2/4" in plan  # the fourth is empty, and gives the schema


async def test_of_two_snapshots_at_the_same_second_the_one_whose_key_sorts_last_is_the_newest(
    analytics: Analytics,
) -> None:
    await analytics.layer.put_hour(
        8,
        row("1", at(8, 10), bikes=1, s3_source_key="b"),
        row("2", at(8, 10), bikes=2, s3_source_key="b"),
        row("1", at(8, 10), bikes=3, s3_source_key="a"),
    )
    await analytics.layer.put_hour(9, row("1", at(7, 50), bikes=5, timestamp=at(9).replace(tzinfo=None)))
    await analytics.refresh()
    assert analytics.query("SELECT station_id, bikes FROM wrm_stations_latest") == [("1", 1), ("2", 2)]
    assert_published(analytics)


async def test_bikes_are_those_of_the_newest_snapshot_even_if_it_saw_none(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"), *snapshot(at(8, 1), "1", "fb2"))
    await analytics.refresh()
    assert analytics.query("SELECT station_id FROM wrm_bikes_latest") == [("fb2",)]
    await analytics.layer.put_hour(9, *snapshot(at(9), "1"))
    await analytics.refresh()
    assert analytics.query("SELECT station_id FROM wrm_bikes_latest") == []
    await analytics.layer.remove(segment_of(PARTITION, at(9), 60))
    await analytics.refresh()
    assert analytics.query("SELECT station_id FROM wrm_bikes_latest") == [("fb2",)]


async def test_a_refresh_reads_only_the_partitions_that_changed(analytics: Analytics) -> None:
    days = [DAY + dt.timedelta(number) for number in range(4)]
    for day in days:
        await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1", "fb1"), day=day)
    assert (await analytics.refresh()).read == 4
    assert (await analytics.refresh()).read == 0
    await analytics.layer.put_hour(8, *snapshot(at(8, day=days[2]), "1"), day=days[2])
    await analytics.layer.remove(segment_of(wrm_day(days[3]), at(8, day=days[3]), 60))
    refresh = await analytics.refresh()
    assert (refresh.read, refresh.removed) == (1, 1)
    again = analytics.reopened()
    assert (await again.refresh()).read == 0
    assert_published(again)
    again.warehouse.close()


async def test_late_and_lost_segments_count_as_those_that_came_in_time(analytics: Analytics) -> None:
    for hour in (3, 4, 5, 6, 1, 5, 2):
        minutes = range(0, 60, 20) if hour != 5 else range(len(analytics.layer.rows))
        rows = [row for n in minutes for row in snapshot(at(hour, n), "1", "2", bikes=n % 2)]
        await analytics.layer.put_hour(hour, *rows)
        await analytics.refresh()
        assert_published(analytics)
    for hour in (6, 2):
        await analytics.layer.remove(segment_of(PARTITION, at(hour), 60))
        await analytics.refresh()
        assert_published(analytics)


HOURS = st.integers(0, 5)
IDS = st.sampled_from(["1", "2", "3", "fb1", "fb2", "x"])
ROWS = st.lists(st.tuples(IDS, st.integers(0, 59), st.integers(0, 2)), min_size=1, max_size=6)
STEPS = st.lists(st.one_of(st.tuples(HOURS, ROWS), st.tuples(HOURS, st.none()), st.just("seal")), max_size=5)


@settings(max_examples=rounds(3, 8))
@given(STEPS)
async def test_whatever_happens_to_segments_the_database_agrees_with_plain_python(steps: list[Any]) -> None:
    """Segments are written, written again with more or fewer rows, removed and sealed, each followed by a refresh."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_analytics(Path(directory)) as analytics:
            layer = analytics.layer
            present: set[int] = set()
            for step in steps:
                if step == "seal":
                    if present and 99 not in present:
                        await layer.seal()
                        present = {99}
                elif step[1] is None:
                    if step[0] in present:
                        await layer.remove(segment_of(PARTITION, at(step[0]), 60))
                        present.discard(step[0])
                elif 99 not in present:
                    rows = {(i, m): row(i, at(step[0], m), bikes=b, spaces=2 - b) for i, m, b in step[1]}
                    await layer.put_hour(step[0], *rows.values())
                    present.add(step[0])
                await analytics.refresh()
                assert_published(analytics)


async def test_sealing_a_day_changes_nothing_that_a_reader_sees(analytics: Analytics) -> None:
    for hour in (0, 12, 23):
        await analytics.layer.put_hour(hour, *snapshot(at(hour), "1", "2", "fb1"))
    await analytics.refresh()
    before = {name: sorted(analytics.query(f"FROM {name}"), key=repr) for name in VIEWS + LATEST}
    await analytics.layer.seal()
    refresh = await analytics.refresh()
    assert (refresh.read, refresh.removed, refresh.published.segments) == (1, 0, 1)
    assert {name: sorted(analytics.query(f"FROM {name}"), key=repr) for name in VIEWS + LATEST} == before


async def test_every_object_carries_its_documentation(analytics: Analytics) -> None:
    await analytics.refresh()
    for schema, objects in ((SCHEMA, published()), (COMPATIBLE, compatible("wrm"))):
        comments = dict(
            analytics.query(
                "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = $1 AND NOT internal"
                " UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = $1",
                schema,
            )
        )
        assert comments == {item.name: item.comment for item in objects}
        assert all(len(comment) > 40 and comment.endswith(".") for comment in comments.values())
    queries = (*readings().values(), *derived().values(), *merges().values(), *macros())
    assert all(query.startswith("-- ") for query in queries)


async def test_the_publication_tells_what_is_in_the_database(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"))
    published_at = (await analytics.refresh()).published.at
    naive = published_at.replace(tzinfo=None)
    assert analytics.query("SELECT published_at, segments, newest_snapshot FROM publication") == [
        (naive, 1, at(8).replace(tzinfo=None))
    ]
    assert abs((dt.datetime.now(dt.UTC) - published_at).total_seconds()) < 30


async def test_it_reads_the_same_when_attached_under_another_name(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    with duckdb.connect() as reader:
        reader.execute(f"ATTACH '{analytics.warehouse.path}' AS bikes (READ_ONLY)")
        reader.execute("CREATE SCHEMA wrm_analytics")
        assert reader.execute("SELECT count(*) FROM bikes.wrm_analytics.wrm_stations_only").fetchall() == [(1,)]
        assert reader.execute("SELECT count(*) FROM bikes.wrm_analytics.wrm_bikes_latest").fetchall() == [(1,)]


async def test_the_published_file_stays_small_and_alone(analytics: Analytics) -> None:
    sizes = []
    for number in range(12):
        await analytics.layer.put_hour(8, *snapshot(at(8, number), *map(str, range(200))))
        sizes.append((await analytics.refresh()).published.size_bytes)
    assert len(set(sizes)) == 1 and sizes[0] < 2_000_000
    assert sorted(path.name for path in analytics.data_dir.iterdir()) == [
        "analytics.duckdb",
        "lake",
        "mirror",
        "warehouse",
    ]


async def test_any_directory_name_will_do(tmp_path: Path) -> None:
    async with open_analytics(tmp_path / "it's [odd] *dir {x} „ż”") as analytics:
        await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
        await analytics.refresh()
        assert_published(analytics)


async def test_the_database_can_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere = WarehouseSettings(path=tmp_path / "some" / "where" / "bikes.db")
    async with open_analytics(tmp_path / "data", settings=elsewhere) as analytics:
        await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
        await analytics.refresh()
        assert analytics.warehouse.path == elsewhere.path
        assert_published(analytics)


@pytest.mark.parametrize("name", ["what?", "back\\slash"])
def test_a_directory_that_duckdb_cannot_use_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="rename"):
        Warehouse(WarehouseSettings(), tmp_path / name)


def test_a_name_that_hides_the_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"warehouse\.path"):
        Warehouse(WarehouseSettings(path=tmp_path / "wrm_analytics.duckdb"), tmp_path)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 500)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    """Damage inside: the file opens, and fails where it is read."""
    data = bytearray(path.read_bytes())
    for offset in range(3 * 4096, len(data), 4096):
        data[offset : offset + 512] = bytes(512)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [garbage, truncate, scramble, Path.unlink])
@pytest.mark.parametrize("name", ["warehouse/working.duckdb", "warehouse/template.duckdb", "analytics.duckdb"])
async def test_a_damaged_or_missing_database_is_built_anew(analytics: Analytics, damage: Any, name: str) -> None:
    for hour in (8, 9):
        await analytics.layer.put_hour(hour, *snapshot(at(hour), *map(str, range(300)), "fb1"))
    await analytics.refresh()
    analytics.warehouse.close()
    damage(analytics.data_dir / name)
    again = analytics.reopened()
    await again.layer.put_hour(9, *snapshot(at(9), "1"))
    await again.refresh()
    assert_published(again)
    again.warehouse.close()


async def test_what_was_damaged_is_kept_once(analytics: Analytics) -> None:
    working = analytics.data_dir / "warehouse" / "working.duckdb"
    for _ in range(3):
        await analytics.refresh()
        analytics = analytics.reopened()
        garbage(working)
        working.with_name("working.duckdb.wal").write_bytes(b"no log")
    await analytics.refresh()
    analytics.warehouse.close()
    names = sorted(path.name for path in working.parent.iterdir())
    assert names[:3] == ["filled.duckdb", "template.duckdb", "working.duckdb"]
    assert len(names) == 4 and names[3].startswith("working.duckdb.damaged-20")


async def test_damage_found_while_it_is_open_is_healed_too(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    assert analytics.warehouse._open is not None
    analytics.warehouse._open[0].connection.execute("DROP TABLE state.spans")
    await analytics.layer.put_hour(9, *snapshot(at(9), "2"))
    assert (await analytics.refresh()).read == 1
    assert_published(analytics)


async def test_what_a_crash_loses_of_the_partial_results_is_read_again(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    again = analytics.reopened()
    await again.layer.put_hour(9, *snapshot(at(9), "2"))
    await again.refresh()
    working = again.data_dir / "warehouse" / "working.duckdb"
    shutil.copyfile(working, working.with_name("crashed"))
    again.warehouse.close()
    working.with_name("crashed").replace(working)
    after = again.reopened()
    assert (await after.refresh()).read == 1
    assert_published(after)
    after.warehouse.close()


async def test_partial_results_are_saved_after_so_much_was_read(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.warehouse.state.SAVED_BYTES", 0)
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    working = analytics.data_dir / "warehouse" / "working.duckdb"
    shutil.copyfile(working, working.with_name("crashed"))
    analytics.warehouse.close()
    working.with_name("crashed").replace(working)
    again = analytics.reopened()
    assert (await again.refresh()).read == 0
    assert_published(again)
    again.warehouse.close()


async def test_partial_results_of_another_version_are_built_anew(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.refresh()
    analytics.warehouse.close()
    with duckdb.connect(analytics.data_dir / "warehouse" / "working.duckdb") as working:
        working.execute("UPDATE state.stamp SET value = 'older'; DELETE FROM state.spans")
    again = analytics.reopened()
    assert (await again.refresh()).read == 1
    assert_published(again)
    again.warehouse.close()


async def test_one_of_an_earlier_version_with_larger_blocks_is_not_called_damaged(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    directory = analytics.data_dir / "warehouse"
    directory.mkdir(parents=True)
    with duckdb.connect(":memory:") as earlier:
        earlier.execute(f"ATTACH '{directory}/working.duckdb' AS working (BLOCK_SIZE 262144)")
        earlier.execute(
            "CREATE SCHEMA working.partials; CREATE TABLE working.partials.stamp AS SELECT 'older' AS value"
        )
    await analytics.refresh()
    assert_published(analytics)
    assert not list(directory.glob("*.damaged*"))


async def test_somebody_elses_database_is_never_overwritten(analytics: Analytics) -> None:
    with duckdb.connect(analytics.warehouse.path) as theirs:
        theirs.execute("CREATE TABLE precious AS SELECT 42 AS answer")
    with pytest.raises(Permanent, match="did not write"):
        await analytics.refresh()
    with duckdb.connect(analytics.warehouse.path) as theirs:
        assert theirs.execute("FROM precious").fetchall() == [(42,)]


async def test_a_file_that_is_no_database_is_set_aside_and_not_lost(analytics: Analytics) -> None:
    analytics.data_dir.mkdir(exist_ok=True)
    analytics.warehouse.path.write_text("my notes")
    await analytics.refresh()
    (kept,) = analytics.data_dir.glob("analytics.duckdb.damaged-*")
    assert kept.read_text() == "my notes"
    assert analytics.query("SELECT count(*) FROM wrm_history") == [(0,)]


async def test_a_log_left_by_a_writing_reader_does_not_spoil_the_next_publication(analytics: Analytics) -> None:
    await analytics.refresh()
    wal = analytics.warehouse.path.with_name("analytics.duckdb.wal")
    wal.write_bytes(b"left behind")
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.refresh()
    assert not wal.exists()
    assert_published(analytics)


async def test_a_damaged_segment_costs_only_itself(analytics: Analytics) -> None:
    segment = segment_of(PARTITION, at(9), 60)
    whole = parquet(segment, snapshot(at(9), *map(str, range(50))))
    broken = whole[:100] + bytes(len(whole) // 2) + whole[100 + len(whole) // 2 :]
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "fb1"))
    await analytics.layer.put(segment, [], data=broken)
    refresh = await analytics.refresh()
    assert refresh.damaged == (segment,)
    assert (refresh.read, refresh.published.stations) == (1, 1)
    await analytics.mirror.discard(refresh.damaged)
    assert_published(analytics)
    await analytics.layer.put(segment, snapshot(at(9), "2"))
    assert (await analytics.refresh()).damaged == ()
    assert_published(analytics)


async def test_a_full_or_forbidden_disk_is_worth_another_attempt(analytics: Analytics) -> None:
    await analytics.sync()
    (analytics.data_dir / "warehouse").write_text("in the way")
    with pytest.raises(Transient, match="warehouse"):
        await analytics.refresh()
    (analytics.data_dir / "warehouse").unlink()
    await analytics.refresh()


async def test_a_database_that_another_process_holds_is_left_alone(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.refresh()
    analytics.warehouse.close()
    working = analytics.data_dir / "warehouse" / "working.duckdb"
    program = f"import duckdb; c = duckdb.connect({str(working)!r}); print('open', flush=True); input()"
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    with pytest.raises(Transient, match="lock"):
        await analytics.refresh()
    await holder.communicate(b"\n")
    assert (await analytics.refresh()).read == 0
    assert not list(working.parent.glob("*.damaged-*"))


async def test_too_little_memory_says_which_setting_to_raise(tmp_path: Path) -> None:
    small = WarehouseSettings(memory_limit="1MB")
    async with open_analytics(tmp_path / "data", settings=small) as analytics:
        await analytics.layer.put_hour(8, *snapshot(at(8), *map(str, range(2000))))
        with pytest.raises(Transient, match=r"memory_limit"):
            await analytics.refresh()
        assert not list((analytics.data_dir / "warehouse").glob("*.damaged-*"))


async def test_an_interrupted_refresh_ends_and_the_next_process_finishes_it(analytics: Analytics) -> None:
    for hour in range(3):
        await analytics.layer.put_hour(hour, *snapshot(at(hour), "1"))
    await analytics.sync()
    analytics.warehouse.interrupt()
    with pytest.raises(Transient, match="interrupted"):
        await analytics.refresh()
    again = analytics.reopened()
    assert (await again.refresh()).read == 1
    again.warehouse.close()


async def test_a_refresh_names_the_files_of_open_days_only_and_follows_changes_of_all_others(
    analytics: Analytics,
) -> None:
    days = [DAY + dt.timedelta(number) for number in range(6)]
    for day in days:
        await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1"), day=day)
    for day in days[:2]:
        await analytics.layer.seal(day)
    await analytics.refresh()

    def days_in(view: str) -> list[dt.date]:
        ((sql,),) = analytics.query(
            "SELECT sql FROM duckdb_views() WHERE schema_name = 'parts' AND view_name = $1", view
        )
        return [day for day in days if f"dt={day}" in sql]

    assert (days_in("files_sealed"), days_in("files_open")) == (days[:2], days[2:])
    template = analytics.data_dir / "warehouse" / "template.duckdb"
    before = template.read_bytes()
    await analytics.layer.put_hour(8, *snapshot(at(8, day=days[5]), "1", "2"), day=days[5])
    await analytics.refresh()
    assert template.read_bytes() == before
    await analytics.layer.put_hour(8, *snapshot(at(8, day=days[2]), "1", "2"), day=days[2])
    await analytics.layer.put_hour(9, *snapshot(at(9), "1", "2"))
    await analytics.refresh()
    assert (days_in("files_sealed"), days_in("files_open")) == (days[1:2], [days[0], *days[2:]])
    per_day = analytics.query("SELECT date, count(*) FROM wrm_history GROUP BY ALL ORDER BY ALL")
    assert [rows for _, rows in per_day] == [3, 1, 2, 1, 1, 2]
