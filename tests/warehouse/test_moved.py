"""Rows of open days go from tables to files, and every table stays what it is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest

from tests.support.parquet import DAY, Row, at, snapshot
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.tables import assert_tables

NEXT_DAY = DAY + dt.timedelta(days=1)
NAMES = ("station_changes", "bike_changes", "raw_files")


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go at each refresh that brings any."""
    monkeypatch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", 1)


def files(analytics: Analytics) -> list[Path]:
    return sorted((analytics.data_dir / "mirror" / "kept").glob("*/moved/*/*.parquet"))


async def lives_on(analytics: Analytics, minutes: range, day: dt.date = DAY) -> list[Row]:
    """A snapshot a minute, with other bikes at one of two stations, and a bike that comes and goes."""
    rows: list[Row] = []
    for minute in minutes:
        free = ["fb1"] if minute % 2 else []
        rows += [*snapshot(at(8, minute, day=day), "1", *free, bikes=minute), *snapshot(at(8, minute, day=day), "2")]
        await analytics.layer.put_hour(8, *rows, day=day)
        await analytics.refresh(quick=True)
    return rows


async def test_tables_keep_the_newest_row_of_each_station_only(analytics: Analytics) -> None:
    await lives_on(analytics, range(10))
    assert_tables(analytics, analytics.layer.rows)
    ((changes,),) = analytics.query("SELECT count(*) FROM recent_station_changes")
    assert changes == 3  # of two stations, and that of the newest snapshot
    for name in ("bike_changes", "raw_files"):
        assert analytics.query(f"SELECT count(*) FROM recent_{name}") == [(0,)]
        assert analytics.query(f"SELECT count(*) > 5 FROM open_{name}") == [(True,)]
    assert len(files(analytics)) > 10


async def test_a_file_that_is_gone_or_damaged_is_made_up_for_at_the_next_start(analytics: Analytics) -> None:
    await lives_on(analytics, range(6))
    expected = analytics.query("FROM station_changes ORDER BY ALL")
    gone, damaged, *_ = files(analytics)
    gone.unlink()
    damaged.write_bytes(b"PAR1 no more")
    analytics.warehouse.close()
    assert (await analytics.refresh(quick=True)).read == 1
    assert analytics.query("FROM station_changes ORDER BY ALL") == expected
    assert_tables(analytics, analytics.layer.rows)


async def test_files_of_sealed_days_are_removed_after_a_while(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lives_on(analytics, range(4))
    before = files(analytics)
    await analytics.layer.seal(DAY)
    await analytics.refresh()
    assert files(analytics) == before, "who has the publication before open still reads them"
    assert analytics.query("SELECT count(*) FROM moved_days") == [(0,)]
    monkeypatch.setattr("bikeflow.warehouse.moved.RETAINED_SECONDS", -1)
    await lives_on(analytics, range(1), day=NEXT_DAY)
    assert not set(files(analytics)) & set(before)
    assert_tables(analytics, analytics.layer.rows)


async def test_what_no_table_names_is_removed_after_a_restart(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lives_on(analytics, range(2))
    left = files(analytics)[0].with_name("99.0123456789abcdef.parquet")
    left.write_bytes(files(analytics)[0].read_bytes())
    analytics.warehouse.close()
    monkeypatch.setattr("bikeflow.warehouse.moved.RETAINED_BYTES", 0)
    await analytics.refresh()
    assert not left.exists()
    assert_tables(analytics, analytics.layer.rows)


async def test_the_catalog_tells_what_reads_files_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy without the files, a summary works as long as no rows have gone to files."""
    monkeypatch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", 30)
    needing = "SELECT DISTINCT needs_files FROM main.catalog WHERE object = 'station_summary'"
    async with open_analytics(tmp_path / "here") as analytics:
        await lives_on(analytics, range(2))
        copy = tmp_path / "copy.duckdb"
        copy.write_bytes(analytics.warehouse.path.read_bytes())
        assert analytics.query(needing) == [(False,)]
        await lives_on(analytics, range(20))
        assert analytics.query(needing) == [(True,)]
        await analytics.layer.seal(DAY)
        await analytics.refresh()
        assert analytics.query(needing) == [(False,)]
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    with duckdb.connect(copy, read_only=True) as reader:
        assert len(reader.execute("FROM station_summary").fetchall()) == 2
