"""Free bikes that move, and the fleet by the hour: both agree with plain Python, whatever happens to the raw files."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from tests.answers import places
from tests.answers.tables import assert_density
from tests.support.gbfs import history
from tests.support.parquet import DAY, Row, at, row, snapshot
from tests.support.real import REAL
from tests.warehouse import expected, expected_bikes
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.tables import assert_same, keyed
from tests.warehouse.test_quick_and_sure import City

SHARED = Path(__file__).parents[3] / "shared"
REPLAY, TRIPS = SHARED / "tools/replay_wrm.py", SHARED / "data/history/wrm_trips/trips_2024-03.csv.zst"
NEXT_DAY = DAY + dt.timedelta(days=1)
MOVES = """SELECT bike_id, ended_at, began_at, from_lat, from_lon, to_lat, to_lon, distance_meters, duration_seconds,
                  unknown_seconds, out_of_sight, battery_before, battery_after, range_before, range_after, suspected,
                  date, hour, local_date, local_hour
           FROM bike_moves"""
FLEET = """SELECT date, hour, local_date, local_hour, mean_station_bikes, mean_station_bikes_outside, mean_free_bikes,
                  mean_free_bikes_outside, mean_bikes, known_seconds
           FROM fleet_hourly"""


def assert_bikes(analytics: Analytics, rows: Iterable[Row]) -> None:
    """The tables of free bikes agree with `rows`."""
    rows = list(rows)
    wanted = expected.station_density_hourly(rows, expected.file_coverage(rows))
    with analytics.reading():
        assert_same(keyed(analytics, MOVES, 2), expected_bikes.bike_moves(rows))
        assert_same(keyed(analytics, FLEET, 2), expected_bikes.fleet_hourly(rows))
        assert_density(partial(keyed, analytics), wanted)


async def published(analytics: Analytics, *snapshots: list[Row], day: dt.date = DAY) -> Analytics:
    """Put snapshots into the hours that they are of, and publish after each of them."""
    hours: dict[int, list[Row]] = {}
    for rows in snapshots:
        hour = rows[0]["file_timestamp"].hour
        hours[hour] = [*hours.get(hour, []), *rows]
        await analytics.layer.put_hour(hour, *hours[hour], day=day)
        await analytics.refresh(quick=True)
    assert_bikes(analytics, analytics.layer.rows)
    return analytics


SUSPECTED = "SELECT suspected, out_of_sight FROM bike_moves ORDER BY ended_at"


async def test_a_bike_that_is_gone_and_comes_elsewhere_has_moved(analytics: Analytics) -> None:
    await published(
        analytics,
        [row("1", at(8)), row("fb1", at(8), battery_level=60)],
        [row("1", at(8, 1))],
        [row("1", at(8, 20))],
        [row("1", at(8, 21)), row("fb1", at(8, 21), lat=51.11, battery_level=55)],
    )
    moves = "SELECT began_at, ended_at, round(distance_meters), battery_before, battery_after FROM bike_moves"
    assert analytics.query(moves) == [(at(8).replace(tzinfo=None), at(8, 21).replace(tzinfo=None), 1112, 60, 55)]
    assert analytics.query(SUSPECTED) == [("trip", True)]


async def test_a_bike_that_stands_still_and_jitters_has_not(analytics: Analytics) -> None:
    places = (51.1, 51.1002, 51.0997, 51.1, 51.1004, 51.1001)
    await published(analytics, *([row("fb1", at(8, minute), lat=lat)] for minute, lat in enumerate(places)))
    assert analytics.query("FROM bike_moves") == []
    assert analytics.query("SELECT change FROM bike_changes") == [("first",)]


async def test_a_bike_that_comes_back_to_where_it_was_has_not_moved(analytics: Analytics) -> None:
    await published(
        analytics, snapshot(at(8), "1", "fb1"), snapshot(at(8, 1), "1"), snapshot(at(8, 9), "1", "fb1", lat=51.1005)
    )
    assert analytics.query("FROM bike_moves") == []


async def test_what_a_move_was_is_suspected_by_battery_speed_company_and_way_back(analytics: Analytics) -> None:
    def moved(bike: str, minutes: int, battery: int = 55, **place: float) -> list[list[Row]]:
        begun = at(8, 0)
        last = begun + dt.timedelta(minutes=minutes)
        return [[row(bike, begun)], [row("1", at(8, 1))], [row(bike, last, battery_level=battery, **place)]]

    for snapshots, suspected in (
        (moved("fb1", 30, lat=51.12), "trip"),
        (moved("fb2", 30, 90, lat=51.12), "relocation"),
        (moved("fb3", 2, lat=51.12), "relocation"),
        (moved("fb4", 2, lat=51.2), "jitter"),
        (moved("fb5", 200, lat=51.12), None),
        ([[row("fb6", at(8, n), lat=51.1 + 0.002 * (n % 2))] for n in range(3)], "jitter"),
    ):
        with tempfile.TemporaryDirectory() as directory:
            async with open_analytics(Path(directory)) as fresh:
                await published(fresh, *snapshots)
                assert {one for one, _ in fresh.query(SUSPECTED)} == {suspected}
    four = [f"fb{number}" for number in range(4)]
    await published(
        analytics,
        [row(bike, at(8), lat=51.0 + 0.01 * number) for number, bike in enumerate(four)],
        [row("1", at(8, 25))],
        [row(bike, at(8, 50), lat=51.12001) for bike in four],
    )
    assert analytics.query(SUSPECTED) == [("relocation", True)] * 4


async def test_a_move_over_midnight_is_found_and_one_over_a_whole_day_is_not(analytics: Analytics) -> None:
    day_after = NEXT_DAY + dt.timedelta(days=1)
    await published(analytics, snapshot(at(23, 58), "1", "fb1", "fb2", "fb3"), snapshot(at(23, 59), "1", "fb1", "fb3"))
    await published(
        analytics,
        snapshot(at(0, 0, day=NEXT_DAY), "1", "fb1", "fb2", lat=51.11),
        snapshot(at(0, 1, day=NEXT_DAY), "1", "fb1", "fb2", lat=51.11),
        day=NEXT_DAY,
    )
    await published(analytics, snapshot(at(0, 0, day=day_after), "1", "fb3", lat=51.12), day=day_after)
    found = keyed(analytics, "SELECT bike_id, began_at, out_of_sight FROM bike_moves")
    assert found == {
        "fb1": (at(23, 59).replace(tzinfo=None), False),
        "fb2": (at(23, 58).replace(tzinfo=None), True),
    }


async def test_ids_that_rotate_make_no_moves_and_few_rows(analytics: Analytics) -> None:
    places = [51.0 + 0.01 * number for number in range(20)]
    snapshots = [
        [row(f"fb{minute}-{number}", at(8, minute), lat=lat) for number, lat in enumerate(places)]
        for minute in range(10)
    ]
    await published(analytics, *snapshots)
    assert analytics.query("FROM bike_moves") == []
    counts = "SELECT change, count(*) FROM bike_changes GROUP BY change"
    assert keyed(analytics, counts) == {"first": (20,), "reset": (9,)}


async def test_ids_that_are_dealt_out_anew_make_no_moves(analytics: Analytics) -> None:
    chance, places = random.Random(1), [51.0 + 0.01 * number for number in range(20)]
    for day in (DAY, NEXT_DAY):
        snapshots = []
        for minute in range(4):
            chance.shuffle(places)
            snapshots.append([row(f"fb{number}", at(8, minute, day=day), lat=lat) for number, lat in enumerate(places)])
        await published(analytics, *snapshots, day=day)
    assert analytics.query("FROM bike_moves") == []


async def test_vehicles_at_stations_are_counted_there_and_empty_documents_tell_nothing(analytics: Analytics) -> None:
    docked = row("fb1", at(8), bikes=0)
    reserved, broken = row("fb2", at(8), bikes=0, locked=True), row("fb3", at(8), bikes=0, bikes_disabled=1)
    outside = row("fb4", at(8), lat=52.2, quality_flags=["outside_service_area"])
    await published(
        analytics,
        [row("1", at(8), bikes=5), docked, reserved, broken, outside],
        [row("?", at(8, 10), record_type="unknown")],
        [row("1", at(8, 20), bikes=5), row("fb1", at(8, 20))],
    )
    assert analytics.query(FLEET) == [(DAY, 8, DAY, 10, 5.0, 0.0, 2.0, 1.0, 8.0, 1200.0)]


async def test_the_fleet_over_midnight_is_that_of_the_day_before_until_its_first_snapshot(analytics: Analytics) -> None:
    await published(analytics, snapshot(at(23, 50), "fb1"), snapshot(at(23, 55), "fb1", "fb2"))
    await published(analytics, snapshot(at(0, 5, day=NEXT_DAY), "fb1"), day=NEXT_DAY)
    wanted = {(DAY, 23): (1.5, 600.0), (NEXT_DAY, 0): (2.0, 300.0)}
    assert keyed(analytics, "SELECT date, hour, mean_free_bikes, known_seconds FROM fleet_hourly", 2) == wanted


DENSITY = """SELECT cell_id, hour, mean_bike_count, mean_mobile_bike_count, known_seconds
             FROM station_density_hourly ORDER BY hour, cell_id"""


async def test_density_is_weighted_by_known_time(analytics: Analytics) -> None:
    """Six bikes for ten minutes, then a free one for half an hour; of the next fifty minutes nothing is known."""
    await published(
        analytics,
        [row("1", at(8), bikes=6)],
        [row("1", at(8, 10), bikes=0), row("fb1", at(8, 10))],
        [row("1", at(8, 20), bikes=0), row("fb1", at(8, 20))],
        [row("1", at(9, 30), bikes=2)],
        [row("1", at(9, 40), bikes=9)],
    )
    cell = places.cell_id(51.1, 17.03)
    assert analytics.query(DENSITY) == [(cell, 8, 2.25, 0.75, 2400.0), (cell, 9, 2.0, 0.0, 600.0)]


async def test_bikes_whose_ids_change_count_where_they_stand(analytics: Analytics) -> None:
    lats = [51.0 + 0.01 * number for number in range(12)]
    for minute in (0, 10, 20):
        rows = [row(f"fb{minute}-{number}", at(8, minute), lat=lat) for number, lat in enumerate(lats)]
        await analytics.layer.put_hour(8, *analytics.layer.rows, *rows)
        await analytics.refresh(quick=True)
    assert_bikes(analytics, analytics.layer.rows)
    resets = analytics.query("SELECT count(*) FROM bike_changes WHERE change = 'reset'")
    cells = sorted(places.cell_id(lat, 17.03) for lat in lats)
    assert resets == [(2,)] and analytics.query(DENSITY) == [(cell, 8, 1.0, 1.0, 1200.0) for cell in cells]


async def test_a_snapshot_without_any_station_tells_nothing_of_stations(analytics: Analytics) -> None:
    await published(
        analytics,
        [row("1", at(23, 30), bikes=5), row("fb1", at(23, 30))],
        [row("fb1", at(23, 40))],
        [row("1", at(23, 50), bikes=5)],
    )
    await published(
        analytics, [row("fb1", at(0, 10, day=NEXT_DAY))], [row("fb1", at(0, 20, day=NEXT_DAY))], day=NEXT_DAY
    )
    hours = {(DAY, 23): (5.0, 2 / 3, 1800.0), (NEXT_DAY, 0): (5.0, 0.5, 1200.0)}
    fleet = "SELECT date, hour, mean_station_bikes, mean_free_bikes, known_seconds FROM fleet_hourly"
    density = (
        "SELECT date, hour, mean_bike_count - mean_mobile_bike_count, mean_mobile_bike_count, known_seconds"
        " FROM station_density_hourly"
    )
    for query in (fleet, density):
        assert_same(keyed(analytics, query, 2), hours)


async def test_a_date_reads_the_files_of_that_day_and_the_one_before(analytics: Analytics, tmp_path: Path) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(5)]
    for day in days:
        await published(analytics, snapshot(at(8, day=day), "1", "fb1", lat=51.1 + day.day / 100), day=day)
        await analytics.layer.seal(day)
    await analytics.refresh()
    profile = tmp_path / "profile.json"
    for table, files in (("bike_moves", 6), ("fleet_hourly", 2), ("station_density_hourly", 4)):
        analytics.query(
            f"PRAGMA enable_profiling = 'json'; PRAGMA profiling_output = '{profile}';"
            f" FROM {table} WHERE date = DATE '{days[3]}'"
        )
        read = re.findall(r'"Total Files Read": *"(\d+)"', profile.read_text())
        assert read and sum(map(int, read)) <= files


async def test_real_snapshots(analytics: Analytics) -> None:
    await add(analytics, [lines(path) for path in sorted(REAL.glob("dt=*/*.txt"))])
    assert analytics.query("SELECT round(distance_meters), suspected FROM bike_moves") == [(2337, "trip")]


async def test_a_replayed_day(analytics: Analytics, tmp_path: Path) -> None:
    command = [sys.executable, str(REPLAY), str(TRIPS), str(tmp_path), "--from", "2024-03-15", "--every", "900"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0
    await add(analytics, [lines(path) for path in sorted((tmp_path / "raw").glob("dt=*/*.txt"))])
    assert analytics.query("SELECT count(*) > 0 FROM bike_moves WHERE suspected = 'trip'") == [(True,)]


async def test_real_scooters(analytics: Analytics) -> None:
    polls = sorted(history("tier_wolfsburg"))
    snapshots = []
    for name, document in polls:
        time = dt.datetime.strptime(name[-21:-5], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        snapshots.append([scooter(record, time) for record in json.loads(document)["data"]["bikes"]])
    await add(analytics, snapshots)
    suspected = keyed(analytics, "SELECT coalesce(suspected, ''), count(*) FROM bike_moves GROUP BY ALL")
    assert suspected["trip"][0] > 150 and suspected["jitter"][0] < 20


async def add(analytics: Analytics, snapshots: list[list[Row]]) -> None:
    """Publish after each hour of snapshots: all agrees, in the quick way, and rebuilt."""
    hours: dict[tuple[dt.date, int], list[Row]] = {}
    for rows in snapshots:
        time = rows[0]["file_timestamp"]
        hours.setdefault((time.date(), time.hour), []).extend(rows)
    for (day, hour), rows in hours.items():
        await analytics.layer.put_hour(hour, *rows, day=day)
        await analytics.refresh(quick=True)
    assert_bikes(analytics, analytics.layer.rows)
    await analytics.layer.seal(min(hours)[0])
    await analytics.refresh()
    assert_bikes(analytics, analytics.layer.rows)


def lines(path: Path) -> list[Row]:
    """A raw file's rows, in the columns that count here."""
    names = ("lat", "lon", "bikes", "spaces", "record_type", "quality_flags", "file_timestamp", "s3_source_key", "date")
    return [
        row(item["station_id"], item["file_timestamp"].replace(tzinfo=dt.UTC), **{name: item[name] for name in names})
        for item in expected.raw_rows(path, path.name)
    ]


def scooter(record: Row, time: dt.datetime) -> Row:
    """The row of a record of GBFS."""
    return row(
        record["bike_id"],
        time,
        record_type="bike",
        lat=record["lat"],
        lon=record["lon"],
        bikes=int(not (record["is_reserved"] or record["is_disabled"])),
        locked=record["is_reserved"],
        bikes_disabled=int(record["is_disabled"]),
        battery_level=None,
        range_meters=float(record["current_range_meters"]),
        vehicle_type=record["vehicle_type_id"],
    )


class Bikes:
    """Some bikes that wander about, by chance, now and then out of sight; what a snapshot at a time says of them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.count = chance.choice([2, 3, 12, 15])
        self.names = [f"fb{number}" for number in range(self.count)]

    def snapshot(self, time: dt.datetime) -> list[Row]:
        """Its rows: in one of ten cases none."""
        chance = self.chance
        if chance.random() < 0.1:
            return []
        rows = [row("1", time, bikes=chance.randrange(5))] if chance.random() < 0.8 else []
        if chance.random() < 0.1:
            chance.shuffle(self.names)
        if chance.random() < 0.1:
            rows.append(row("odd", time, record_type="unknown"))
        restless = chance.choice([0.05, 0.05, 0.6])
        for name in self.names:
            if chance.random() < 0.1 + restless / 2:
                continue
            place = hash_place(name) if chance.random() > restless else chance.randrange(4)
            rows.append(
                row(
                    name,
                    time,
                    lat=None if chance.random() < 0.02 else 51.1 + 0.02 * place + chance.choice([0, 0, 0.0003, 0.0007]),
                    bikes=chance.choice([1, 1, 1, 0]),
                    locked=chance.random() < 0.1,
                    battery_level=chance.choice([None, 50, 52, 90]),
                    range_meters=chance.choice([None, 1000.0, 4000.0]),
                    quality_flags=["outside_service_area"] if place == 3 else [],
                )
            )
        return rows


def hash_place(name: str) -> int:
    """Where a bike stands that does not wander."""
    return int(name[2:]) % 4


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_both_ways_agree_with_plain_python(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    async with open_analytics(
        tmp_path, systems=chance.choice([("wrm",), ("wrm", "another", "yet_another")])
    ) as analytics:
        city, bikes = City(analytics), Bikes(chance)
        for _ in range(chance.randrange(10, 40)):
            day = DAY + dt.timedelta(days=chance.randrange(3))
            time = at(chance.choice([0, 9, 23]), chance.choice([0, 1, 2, 5, 58, 59]), day=day)
            what = chance.random()
            if what < 0.8:
                later = [one for one in city.raw if one.date() == day]
                if later and chance.random() < 0.6:  # mostly, what comes is the newest of its day
                    time = max(later) + dt.timedelta(minutes=chance.choice([1, 1, 2, 30]))
                if time.date() == day:
                    await city.put(time, bikes.snapshot(time))
            elif what < 0.9:
                await city.put(time, [])
            elif any(one.date() == day for one, rows in city.raw.items() if rows):
                await city.seal(day)
            if chance.random() < 0.1:
                analytics.warehouse.close()
            if chance.random() < 0.7:
                await analytics.refresh(quick=chance.random() < 0.8)
                assert_bikes(analytics, analytics.layer.rows)


if not REPLAY.exists():  # the recordings lie beside the project, where it was made, and nowhere else
    del test_a_replayed_day, test_real_scooters
