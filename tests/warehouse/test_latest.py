"""What is newest, what is full, and what is the city's: by the definitions of the catalog, also on real snapshots."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bikeflow.settings.sections import StorageSettings, WarehouseSettings
from bikeflow.warehouse import Mirror, Warehouse
from tests.support.lines import raw_file, station
from tests.support.parquet import DAY, at, row, snapshot
from tests.support.real import REAL
from tests.support.road import open_road
from tests.warehouse.conftest import Analytics
from tests.warehouse.test_tables import publish, travelled
from tests.warehouse.test_warehouse import assert_published

NOON = at(12)
YEAR_2033 = dt.datetime(2033, 1, 1)  # noqa: DTZ001 - as in the tables
NEXT_DAY = DAY + dt.timedelta(days=1)


class Clock:
    """What time it is for a warehouse."""

    def __init__(self) -> None:
        self.now = NOON

    @property
    def latest(self) -> dt.datetime:
        """A later snapshot is dated in the future."""
        return (self.now + dt.timedelta(minutes=5)).replace(tzinfo=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(analytics: Analytics, clock: Clock) -> AsyncIterator[Analytics]:
    """A warehouse for which it is as late as the clock says."""
    analytics.warehouse.close()
    analytics.warehouse = Warehouse(WarehouseSettings(), analytics.data_dir, now=lambda: clock.now)
    yield analytics
    analytics.warehouse.close()


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Analytics]:
    """The four real snapshots, published."""
    async with travelled(tmp_path / "data") as (road, analytics):
        files = {path.relative_to(REAL).as_posix(): path.read_bytes() for path in REAL.glob("dt=*/*.txt")}
        await road.put_all(files)
        await publish(road, analytics)
        yield analytics


async def test_a_row_of_2033_does_not_stay_the_newest(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, row("1", at(8), bikes=1, name="Once", timestamp=YEAR_2033), row("2", at(8)))
    await analytics.layer.put_hour(9, row("1", at(9), bikes=2, name="Now", total_docks=20), row("2", at(9)))
    await analytics.refresh()
    assert analytics.query("SELECT bikes, name FROM wrm_stations_latest WHERE station_id = '1'") == [(2, "Now")]
    summary = "SELECT name, total_docks FROM station_summary WHERE station_id = '1'"
    assert analytics.query(summary) == [("Now", 20)]
    assert_published(analytics)


async def test_when_the_clock_of_the_feed_goes_back_its_stations_are_still_the_newest(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, row("1", at(8), bikes=1))
    back = at(3).replace(tzinfo=None)
    await analytics.layer.put_hour(9, row("1", at(9), bikes=2, timestamp=back))
    await analytics.refresh()
    assert analytics.query("SELECT bikes, timestamp FROM wrm_stations_latest") == [(2, back)]
    assert_published(analytics)


async def test_a_station_that_is_gone_is_not_of_the_city_and_known_to_the_summary(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2"), *snapshot(at(8, 10), "1", "2"))
    await analytics.layer.put_hour(9, *snapshot(at(9), "1"))
    await analytics.refresh()
    assert analytics.query("SELECT station_id FROM wrm_stations_latest") == [("1",)]
    gone = analytics.query("SELECT name, last_seen FROM station_summary WHERE station_id = '2'")
    assert analytics.query("SELECT name, last_seen FROM former_stations WHERE station_id = '2'") == gone
    latest = analytics.query("SELECT station_id FROM wrm_stations_latest")
    former = analytics.query("SELECT station_id FROM former_stations")
    assert sorted(latest + former) == sorted(analytics.query("SELECT station_id FROM station_summary"))
    assert gone == [("Stacja „2”, Wrocław", at(8, 10).replace(tzinfo=None))]


async def test_a_snapshot_dated_in_the_future_does_not_win_before_its_time(timed: Analytics, clock: Clock) -> None:
    await timed.layer.put_hour(11, *snapshot(at(11), "1", "fb1", bikes=1))
    misplaced = row("1", at(13), date=DAY, bikes=9)
    await timed.layer.put_hour(12, row("1", at(12, 4), bikes=2), misplaced, row("2", at(13)))
    with capture_logs() as logs:
        await timed.refresh()
        await timed.refresh()
    told = [(entry["log_level"], entry["snapshots"]) for entry in logs if entry["event"] == "snapshots_dated_in_future"]
    assert told == [("warning", 1)]
    assert timed.query("SELECT bikes FROM wrm_stations_latest") == [(2,)]
    assert timed.query("SELECT station_id FROM station_summary") == [("1",)]
    assert timed.query("SELECT snapshots, future_snapshots, last_snapshot FROM data_quality") == [
        (2, 1, at(12, 4).replace(tzinfo=None))
    ]
    assert_published(timed, clock.latest)
    clock.now = at(12, 56)
    await timed.refresh()
    assert timed.query("SELECT station_id, bikes FROM wrm_stations_latest ORDER BY 1") == [("1", 9), ("2", 7)]
    assert timed.query("SELECT future_snapshots FROM publication") == [(0,)]
    assert_published(timed, clock.latest)
    clock.now = at(12)
    await timed.refresh()
    assert_published(timed, clock.latest)


async def test_snapshots_that_come_with_one_of_the_future_count_as_ever(timed: Analytics, clock: Clock) -> None:
    rows = [*snapshot(at(11), "1", "fb1"), *snapshot(at(11, 30, day=NEXT_DAY), "1", date=DAY)]
    for minute in (1, 2, 3):
        rows += snapshot(at(11, minute), "1", "2", bikes=minute)
        await timed.layer.put_hour(11, *rows)
        await timed.refresh()
        assert_published(timed, clock.latest)
    await timed.layer.put_hour(11, *rows, *snapshot(at(23, day=NEXT_DAY), "2", date=DAY))
    await timed.refresh()
    assert_published(timed, clock.latest)
    clock.now = at(11, 30, day=NEXT_DAY)
    await timed.refresh()
    assert_published(timed, clock.latest)


async def test_a_station_is_full_without_spaces_or_with_a_bike_for_each_dock(analytics: Analytics) -> None:
    states = {
        "1": (0, 0, 10),  # neither bikes nor spaces: it may be closed
        "2": (0, 10, 10),
        "3": (9, 1, 10),
        "4": (10, 1, 10),
        "5": (26, 1, 16),
        "6": (3, 0, 10),
        "7": (3, 2, 0),  # no docks, but room
        "8": (0, 1, 1),
    }
    rows = [
        row(name, at(8, minute), bikes=bikes, spaces=spaces, total_docks=docks)
        for minute in (0, 10)
        for name, (bikes, spaces, docks) in states.items()
    ]
    await analytics.layer.put_hour(8, *rows)
    await analytics.refresh()
    found = analytics.query("SELECT station_id FROM station_summary WHERE share_full = 1")
    assert found == [("4",), ("5",), ("6",)]
    assert analytics.query("SELECT station_id FROM station_summary WHERE share_empty = 1") == [("2",), ("8",)]
    assert analytics.query("SELECT stations_empty, stations_full FROM publication") == [(2, 3)]
    assert_published(analytics)


async def test_of_real_stations_some_are_full(real: Analytics) -> None:
    assert real.query("SELECT stations, stations_empty, stations_full FROM publication") == [(235, 17, 43)]
    assert real.query("SELECT count(*) FROM station_summary WHERE share_full > 0") == [(58,)]


async def test_the_bikes_in_warsaw_are_not_the_citys(real: Analytics) -> None:
    found = real.query("SELECT bikes, bikes_outside, stations, stations_outside FROM publication")
    assert found == [(128, 385, 235, 0)]
    assert real.query("SELECT count(*) FROM wrm_bikes_latest") == [(513,)]


async def test_means_are_weighted_by_time(analytics: Analytics) -> None:
    """10 bikes for 20 minutes, 1 bike for a minute, polled five times; then a gap, half an hour of which is known."""
    times = [(0, 10), (20, 1), (21, 4)]
    rows = [row("1", at(8, minute), bikes=bikes, spaces=10) for minute, bikes in times]
    await analytics.layer.put_hour(8, *rows)
    await analytics.layer.put_hour(14, row("1", at(14), bikes=8))
    await analytics.refresh()
    minutes = 20 + 1 + 30
    ((bikes, occupancy),) = analytics.query("SELECT mean_bikes, mean_occupancy FROM station_summary")
    assert bikes == pytest.approx((20 * 10 + 1 + 30 * 4) / minutes)
    assert occupancy == pytest.approx((20 * 0.5 + 1 / 11 + 30 * 4 / 14) / minutes)


async def test_a_gap_over_midnight_and_days_without_snapshots_are_seen(analytics: Analytics) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(5)]
    await analytics.layer.put_hour(20, *snapshot(at(20), "1"), *snapshot(at(20, 30), "1"))
    await analytics.layer.put_hour(3, *snapshot(at(3, day=days[1]), "1"), day=days[1])
    await analytics.layer.put_hour(1, *snapshot(at(1, day=days[4]), "1"), day=days[4])
    await analytics.refresh()
    assert analytics.query("SELECT date, snapshots, files, longest_gap_seconds / 3600 FROM data_quality") == [
        (days[0], 2, 2, 6.0),
        (days[1], 1, 1, 69.5),
        (days[2], 0, 0, 69.5),
        (days[3], 0, 0, 69.5),
        (days[4], 1, 1, 69.5),
    ]
    assert_published(analytics)


async def test_a_file_taken_just_after_midnight_counts_in_the_hour_of_its_own_day(tmp_path: Path) -> None:
    async with open_road(StorageSettings(), tmp_path / "data") as road:
        warehouse = Warehouse(WarehouseSettings(), tmp_path / "data", road.ledger.runs)
        analytics = Analytics(tmp_path / "data", None, Mirror(road.store, tmp_path / "data"), warehouse)  # type: ignore[arg-type]
        for name in (
            f"dt={DAY}/wrm_stations_{NEXT_DAY}_00-00-04.txt",
            f"dt={NEXT_DAY}/wrm_stations_{NEXT_DAY}_00-01-04.txt",
            f"dt={NEXT_DAY}/wrm_stations_{NEXT_DAY}_00-02-04.txt",
        ):
            await road.put_raw(name, raw_file(station(1)))
        await publish(road, analytics)
        hours = "SELECT date, hour, observations FROM station_hourly"
        assert analytics.query(hours) == [(NEXT_DAY, 0, 2)]
        assert analytics.query(f"{hours} WHERE date = '{DAY}'") == []
        density = "SELECT date, hour, mean_bike_count, known_seconds FROM station_density_hourly"
        assert analytics.query(density) == [(NEXT_DAY, 0, 5.0, 60.0)]
        ((gap,),) = analytics.query(f"SELECT longest_gap_seconds FROM data_quality WHERE date = '{NEXT_DAY}'")
        assert gap == 0
        warehouse.close()


@pytest.mark.parametrize("quick", [True, False])
async def test_a_snapshot_without_any_station_neither_removes_nor_re_adds_one(
    analytics: Analytics, quick: bool
) -> None:
    """Such as an empty station_status beside free bikes, or a CSV in which the stations are missing."""
    first, last = snapshot(at(8), "1", "2", "fb1"), snapshot(at(8, 10), "1", "fb1")
    await analytics.layer.put_hour(8, *first, *last)
    await analytics.refresh(quick=quick)
    none, later = snapshot(at(8, 20), "fb1", "fb2"), snapshot(at(8, 30), "fb3")
    for rows, bikes in (([*none], ["fb1", "fb2"]), ([*none, *later], ["fb3"])):
        await analytics.layer.put_hour(8, *first, *last, *rows)
        await analytics.refresh(quick=quick)
        assert latest(analytics) == (["1"], bikes, ["2"])
        assert analytics.query("SELECT stations, bikes FROM publication") == [(1, len(bikes))]
    await analytics.layer.put_hour(8, *first, *last, *none)  # the newest goes away again
    await analytics.refresh(quick=quick)
    assert latest(analytics) == (["1"], ["fb1", "fb2"], ["2"])
    await analytics.layer.put_hour(8, *first, *last)
    await analytics.refresh(quick=quick)
    assert latest(analytics) == (["1"], ["fb1"], ["2"])
    await analytics.layer.put_hour(0, *snapshot(at(0, day=NEXT_DAY), "fb9"), day=NEXT_DAY)
    await analytics.refresh(quick=quick)
    again = analytics.reopened()
    await again.refresh()
    assert latest(again) == (["1"], ["fb9"], ["2"])
    await again.layer.put_hour(8, *first)
    await again.refresh()
    assert latest(again) == (["1", "2"], ["fb9"], [])
    again.warehouse.close()


def latest(analytics: Analytics) -> tuple[list[str], ...]:
    """Stations now, bikes now, and stations that were."""
    tables = ("wrm_stations_latest", "wrm_bikes_latest", "former_stations")
    return tuple([row[0] for row in analytics.query(f"SELECT station_id FROM {name} ORDER BY 1")] for name in tables)
