"""The simulated city: one document for any moment, valid by the contract, alive, and odd as much as it is told to."""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import correlation, median

import pytest

from bikeflow.simulator import NO_ODDITIES, Area, City, Oddities
from bikeflow.simulator.rhythm import PACE, busy, world
from tests.support.real import SNAPSHOTS

WEDNESDAY = dt.datetime(2026, 6, 3, tzinfo=dt.UTC)
SUNDAY = WEDNESDAY + dt.timedelta(days=4)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
# The city lives two hours ahead of UTC.
NOON = dt.timedelta(hours=10)

COLUMNS = [
    "id",
    "packed",
    "name",
    "lat",
    "lon",
    "bikes",
    "spaces",
    "installed",
    "locked",
    "temporary",
    "total_docks",
    "givesbonus_acceptspedelecs_fbbattlevel",
    "pedelecs",
]
Row = dict[str, str]


@pytest.fixture(scope="module")
def city() -> City:
    """A city of the usual size with nothing odd in it."""
    return City(7, oddities=NO_ODDITIES)


def read(document: str) -> tuple[list[Row], list[str]]:
    """Accepted rows and what is wrong with the other lines, by the contract's rules and the csv module alone."""
    header, *records = csv.reader(io.StringIO(document))
    assert header[:2] == ["#id", "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"]
    assert header[2:] == COLUMNS[2:]
    rows: dict[str, Row] = {}
    faults = []
    for record in records:
        row = dict(zip(COLUMNS, record, strict=False))
        fault = "field count" if len(record) != len(COLUMNS) else fault_of(row)
        if not fault and row["id"] in rows:
            fault = "id twice"
        if fault:
            faults.append(fault)
        else:
            rows[row["id"]] = row
    return list(rows.values()), faults


def fault_of(row: Row) -> str:
    """The first rule that a line of the right length breaks, or nothing."""
    try:
        stamp, local, server = row["packed"].split("|")
        numbers = [float(stamp), float(row["lat"]), float(row["lon"])]
        counts = [int(row[name]) for name in ("bikes", "spaces", "pedelecs")]
        int(local), int(server)
        docks = int(row["total_docks"])
    except ValueError as error:
        return str(error)
    if not all(math.isfinite(number) for number in numbers) or min(counts) < 0 or docks < 1:
        return "impossible number"
    if abs(numbers[1]) > 90 or abs(numbers[2]) > 180:
        return "no place on earth"
    if not {row["installed"], row["locked"], row["temporary"]} <= {"true", "false"}:
        return "no boolean"
    return "" if row["id"] and row["name"] else "empty"


def stamp_of(row: Row) -> float:
    return float(row["packed"].split("|")[0])


def is_bike(row: Row) -> bool:
    return row["id"].startswith("fb")


def occupancy(city: City, area: Area, at: dt.datetime) -> float:
    """Bikes per dock in all of an area's stations, as the document tells it."""
    wanted = {station.id for station in city.stations if station.area is area}
    rows = [row for row in read(city.snapshot(at))[0] if row["id"] in wanted]
    return sum(int(row["bikes"]) for row in rows) / sum(int(row["total_docks"]) for row in rows)


def test_the_same_seed_and_time_give_the_same_bytes_in_another_process() -> None:
    script = (
        "import datetime as dt, sys; from bikeflow.simulator import City; "
        "sys.stdout.buffer.write(City(11).snapshot(dt.datetime(2026, 6, 3, 8, tzinfo=dt.UTC)).encode())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=environment)
    assert other.stdout.decode() == City(11).snapshot(WEDNESDAY + 8 * HOUR)


def test_another_seed_is_another_city() -> None:
    assert City(1).snapshot(WEDNESDAY) != City(2).snapshot(WEDNESDAY)


def test_a_moment_does_not_depend_on_what_was_asked_before(city: City) -> None:
    moments = [WEDNESDAY + 17 * n * MINUTE for n in range(20)]
    forwards = [city.snapshot(at) for at in moments]
    backwards = [city.snapshot(at) for at in reversed(moments)]
    assert forwards == backwards[::-1]


def test_a_time_without_zone_is_refused(city: City) -> None:
    with pytest.raises(TypeError):
        city.snapshot(dt.datetime(2026, 6, 3))  # noqa: DTZ001 - what is to be refused


@pytest.mark.parametrize(("stations", "free_bikes"), [(0, 1), (10_001, 1), (1, -1), (1, 10_001)])
def test_a_city_that_the_ids_have_no_room_for_is_refused(stations: int, free_bikes: int) -> None:
    with pytest.raises(ValueError, match="stations"):
        City(1, stations, free_bikes)


def test_without_oddities_every_line_is_clean_and_no_row_would_be_flagged(city: City) -> None:
    for hour in range(48):
        at = WEDNESDAY + hour * HOUR
        document = city.snapshot(at)
        rows, faults = read(document)
        assert faults == []
        assert document.endswith("\n")
        assert "\r" not in document
        assert len(rows) == document.count("\n") - 1
        for row in rows:
            assert 51.00 <= float(row["lat"]) <= 51.25
            assert 16.75 <= float(row["lon"]) <= 17.25
            assert int(row["bikes"]) <= int(row["total_docks"])
            assert int(row["spaces"]) == (0 if is_bike(row) else max(1, int(row["total_docks"]) - int(row["bikes"])))
            assert 0 <= stamp_of(row) - at.timestamp() < 1


def test_stations_and_free_bikes_look_like_the_real_ones(city: City) -> None:
    rows, _ = read(city.snapshot(WEDNESDAY + NOON))
    stations, bikes = [row for row in rows if not is_bike(row)], [row for row in rows if is_bike(row)]
    assert sorted(row["id"] for row in stations) == [str(15_001 + n) for n in range(250)]
    assert all(row["temporary"] == "false" and 4 <= int(row["total_docks"]) <= 28 for row in stations)
    assert bikes
    for row in bikes:
        assert row["id"] == f"fb{row['name'].removeprefix('BIKE ')}"
        assert len(row["id"]) == 8
        assert [row["bikes"], row["spaces"], row["temporary"], row["total_docks"]] == ["1", "0", "true", "1"]
        assert row["givesbonus_acceptspedelecs_fbbattlevel"] in {str(level) for level in range(-1, 101)}


def test_every_line_has_a_time_of_its_own_and_the_packed_offsets(city: City) -> None:
    rows, _ = read(city.snapshot(WEDNESDAY + MINUTE))
    stamps = [stamp_of(row) for row in rows]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert {row["packed"].partition("|")[2] for row in rows} == {"-7200|-3600"}


def test_names_are_unique_and_need_quoting_and_diacritics(city: City) -> None:
    names = [station.name for station in city.stations]
    assert len(set(names)) == len(names)
    for trouble in (",", '"', "„", "”", "ś", "Ż", "/", "(", "&", "-", "."):
        assert any(trouble in name for name in names), trouble


def test_stations_stand_denser_in_the_centre(city: City) -> None:
    def share_within(kilometres: float) -> float:
        distances = [
            math.hypot((station.place[0] - 51.11) * 111, (station.place[1] - 17.03) * 70) for station in city.stations
        ]
        return sum(distance <= kilometres for distance in distances) / len(distances)

    inner, outer = share_within(2) / 2**2, (share_within(8) - share_within(2)) / (8**2 - 2**2)
    assert inner > 4 * outer


def test_counts_change_little_from_minute_to_minute_and_much_over_a_day(city: City) -> None:
    minutes = range(24 * 60)
    days = [[station.bikes((WEDNESDAY + n * MINUTE).timestamp()) for n in minutes] for station in city.stations]
    steps = Counter(abs(later - earlier) for day in days for earlier, later in pairwise(day))
    assert max(steps) <= 2
    assert 0.01 < steps.total() - steps[0] < 0.3 * steps.total()
    ranges = [max(day) - min(day) for day in days]
    assert sum(ranges) / len(ranges) > 3
    totals = [sum(station) for station in zip(*days, strict=True)]
    assert max(totals) < 1.5 * min(totals)


def test_on_workdays_people_go_to_the_offices_and_home_again(city: City) -> None:
    assert occupancy(city, Area.OFFICE, WEDNESDAY + NOON) > 2 * occupancy(city, Area.HOME, WEDNESDAY + NOON)
    night = WEDNESDAY + 21 * HOUR
    assert occupancy(city, Area.HOME, night) > 2 * occupancy(city, Area.OFFICE, night)


def test_at_weekends_people_go_out(city: City) -> None:
    afternoon = dt.timedelta(hours=13)
    weekend = occupancy(city, Area.LEISURE, SUNDAY + afternoon)
    assert weekend > 2 * occupancy(city, Area.LEISURE, WEDNESDAY + afternoon)
    assert weekend > occupancy(city, Area.OFFICE, SUNDAY + afternoon)


def test_free_bikes_appear_move_and_disappear(city: City) -> None:
    def places(at: dt.datetime) -> dict[str, tuple[str, str]]:
        return {row["id"]: (row["lat"], row["lon"]) for row in read(city.snapshot(at))[0] if is_bike(row)}

    days = [places(WEDNESDAY + n * HOUR) for n in range(72)]
    assert 0.85 * 120 < sum(len(day) for day in days) / len(days) < 1.15 * 120
    early, later = days[8], days[14]
    assert later.keys() - early.keys()
    assert early.keys() - later.keys()
    assert any(early[bike] != later[bike] for bike in early.keys() & later.keys())
    soon = places(WEDNESDAY + 8 * HOUR + MINUTE)
    stayed = early.keys() & soon.keys()
    assert len(stayed) > 0.9 * len(early)
    assert all(early[bike] == soon[bike] for bike in stayed)


def test_batteries_drain_until_they_are_changed(city: City) -> None:
    pedelec = next(bike for bike in city.bikes if bike.charge_seconds)
    levels = [pedelec.battery((WEDNESDAY + n * HOUR).timestamp()) for n in range(24 * 6)]
    assert all(0 <= level <= 100 for level in levels)
    charged = [later > earlier for earlier, later in pairwise(levels)]
    assert 1 <= sum(charged) <= 3
    assert min(levels) < 15
    assert max(levels) > 90
    rows, _ = read(city.snapshot(WEDNESDAY))
    told = Counter(row["givesbonus_acceptspedelecs_fbbattlevel"] != "-1" for row in rows if is_bike(row))
    assert 0.1 < told[True] / told.total() < 0.4


def test_some_stations_hold_more_bikes_than_docks() -> None:
    city = City(7, oddities=replace(NO_ODDITIES, over_capacity=0.1))
    over = set()
    for hour in range(24):
        rows, faults = read(city.snapshot(WEDNESDAY + hour * HOUR))
        assert faults == []
        over |= {r["id"] for r in rows if int(r["bikes"]) > int(r["total_docks"])}
    assert 10 <= len(over) <= 25


def test_some_free_bikes_stand_together_in_another_city() -> None:
    city = City(7, oddities=replace(NO_ODDITIES, abroad=0.1))
    shares, places = [], set()
    for hour in range(0, 48, 2):
        bikes = [row for row in read(city.snapshot(WEDNESDAY + hour * HOUR))[0] if is_bike(row)]
        abroad = [row for row in bikes if not 51.00 <= float(row["lat"]) <= 51.25]
        assert all(
            abs(float(row["lat"]) - 52.281) < 0.002 and abs(float(row["lon"]) - 21.012) < 0.003 for row in abroad
        )
        shares.append(len(abroad) / len(bikes))
        places |= {(row["id"], row["lat"], row["lon"]) for row in abroad}
    assert 0.06 < sum(shares) / len(shares) < 0.16
    # They stand there for days: in two days hardly one is seen at two places.
    assert len(places) <= 1.5 * len({bike for bike, _, _ in places})


def test_a_stale_station_stands_still_for_the_day() -> None:
    city = City(7, oddities=replace(NO_ODDITIES, stale=0.004))
    told = set()
    for hour in range(24):
        at = WEDNESDAY + hour * HOUR
        stale = [row for row in read(city.snapshot(at))[0] if stamp_of(row) < at.timestamp() - 86_400]
        told |= {tuple(row.items()) for row in stale}
        assert len(stale) == 1
        assert at.timestamp() - stamp_of(stale[0]) < 3 * 86_400
    assert len(told) == 1


def test_one_snapshot_in_forty_has_one_malformed_line_and_all_kinds_occur() -> None:
    city = City(3, stations=12, free_bikes=4, oddities=replace(NO_ODDITIES, malformed=Oddities().malformed))
    faults = [read(city.snapshot(WEDNESDAY + n * MINUTE))[1] for n in range(6_000)]
    assert max(len(found) for found in faults) == 1
    malformed = [found[0] for found in faults if found]
    assert 1 / 60 < len(malformed) / len(faults) < 1 / 30
    kinds = Counter("count" if "+" in fault else fault for fault in malformed)
    # Two ways lead to a wrong number of fields: a lost field, and a last line that is cut off.
    assert set(kinds) == {"field count", "count", "no place on earth", "id twice"}
    cut_off = sum(not city.snapshot(WEDNESDAY + n * MINUTE).endswith("\n") for n, found in enumerate(faults) if found)
    assert 0 < cut_off < kinds["field count"]


def test_a_malformed_line_costs_no_other_line() -> None:
    clean = City(3, stations=12, free_bikes=4, oddities=NO_ODDITIES)
    odd = City(3, stations=12, free_bikes=4, oddities=replace(NO_ODDITIES, malformed=1))
    for n in range(50):
        at = WEDNESDAY + n * MINUTE
        (expected, _), (rows, faults) = read(clean.snapshot(at)), read(odd.snapshot(at))
        assert len(faults) == 1
        missing = [row for row in expected if row not in rows]
        assert [row for row in rows if row not in expected] == []
        assert len(missing) == (0 if faults == ["id twice"] else 1)


def test_the_accelerated_world_keeps_real_stamps(city: City) -> None:
    document = city.accelerated(60, since=WEDNESDAY)
    assert document(WEDNESDAY) == city.snapshot(WEDNESDAY)
    after_ten_minutes, after_ten_hours = document(WEDNESDAY + 10 * MINUTE), city.snapshot(WEDNESDAY + 10 * HOUR)
    fast, normal = read(after_ten_minutes)[0], read(after_ten_hours)[0]
    assert [row["bikes"] for row in fast] == [row["bikes"] for row in normal]
    assert [row["lat"] for row in fast] == [row["lat"] for row in normal]
    begin = (WEDNESDAY + 10 * MINUTE).timestamp()
    assert all(0 <= stamp_of(row) - begin < 1 for row in fast)


SIMULATED = [City(seed).snapshot(WEDNESDAY + hour * HOUR) for seed, hour in ((1, 8), (2, 12), (3, 18), (4, 20))]
DOCUMENTS = [*SIMULATED, *(path.read_text(encoding="utf-8") for path in SNAPSHOTS)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=[*"1234", *(path.stem[-19:] for path in SNAPSHOTS)])
def test_real_and_simulated_documents_have_the_same_habits(document: str) -> None:
    rows, _ = read(document)
    stations, bikes = [row for row in rows if not is_bike(row)], [row for row in rows if is_bike(row)]
    counts = [[int(row[name]) for name in ("bikes", "spaces", "total_docks")] for row in stations]
    # One space is the least that a station says; a few say less than there is, as docks of theirs are broken.
    usual = sum(spaces == max(1, docks - held) for held, spaces, docks in counts)
    assert 0.95 * len(counts) <= usual < len(counts)
    assert all(1 <= spaces <= max(1, docks - held) for held, spaces, docks in counts)
    over = sum(held > docks for held, _, docks in counts) / len(counts)
    full = sum(held >= docks for held, _, docks in counts) / len(counts)
    empty = sum(held == 0 for held, _, _ in counts) / len(counts)
    assert 0.1 < over < 0.25
    assert over <= full < 0.3
    assert 0.02 < empty < 0.2
    assert 2 < max(held / docks for held, _, docks in counts) < 6
    assert median(docks for _, _, docks in counts) == 10
    assert {(row["installed"], row["locked"], row["temporary"]) for row in stations} == {("true", "false", "false")}
    assert {(row["installed"], row["locked"], row["temporary"]) for row in bikes} == {("true", "false", "true")}
    assert {(row["bikes"], row["spaces"], row["total_docks"]) for row in bikes} == {("1", "0", "1")}
    for row in bikes:
        assert row["pedelecs"] == "1" or row["givesbonus_acceptspedelecs_fbbattlevel"] == "-1"
    # The times grow by a tenth of a millisecond from line to line, the stations' ids nearly always.
    stamps, ids = [stamp_of(row) for row in rows], [row["id"] for row in stations]
    now = [stamp for stamp in stamps if abs(stamp - median(stamps)) < 60]
    assert len(now) >= len(stamps) - 1
    assert all(0 < later - earlier < 0.0005 for earlier, later in pairwise(now))
    assert 0 < sum(later < earlier for earlier, later in pairwise(ids)) < 10


def test_the_city_moves_with_the_rhythm_of_the_real_trips(city: City) -> None:
    """Each hour has its share of the changes at all stations, as it has of the trips."""
    for day, first_hour in ((WEDNESDAY, 48), (SUNDAY, 6 * 24)):
        midnight = day - 2 * HOUR
        hours = [0] * 24
        for station in city.stations:
            held = [station.bikes((midnight + 2 * n * MINUTE).timestamp()) for n in range(24 * 30 + 1)]
            for n, (earlier, later) in enumerate(pairwise(held)):
                hours[n // 30] += abs(later - earlier)
        assert correlation(hours, PACE[first_hour : first_hour + 24]) > 0.9
        assert max(hours) > 8 * min(hours)


def test_busy_time_is_a_week_a_week_and_can_be_turned_back() -> None:
    for moment in (0.0, 1e9, 1.7e9 + 123.4, WEDNESDAY.timestamp(), SUNDAY.timestamp() + 0.5):
        assert world(busy(moment)) == pytest.approx(moment, abs=1e-3)
        assert busy(moment + 7 * 86_400) - busy(moment) == pytest.approx(7 * 86_400)
    assert sum(PACE) / len(PACE) == pytest.approx(1)


def test_now_and_then_a_document_is_empty_or_dated_by_a_wrong_clock() -> None:
    city = City(5, stations=3, free_bikes=1, oddities=replace(NO_ODDITIES, empty=0.02, wrong_clock=0.02))
    moments = [WEDNESDAY + n * MINUTE for n in range(3_000)]
    empty, wrong = 0, Counter[int]()
    for at in moments:
        rows, faults = read(city.snapshot(at))
        error = round(stamp_of(rows[0]) - at.timestamp()) if rows else 0
        assert city.is_whole(at) == (bool(rows) and error == 0)
        assert faults == []
        empty += not rows
        wrong[error] += 1
    assert 0.01 < empty / len(moments) < 0.03
    assert set(wrong) == {0, -3_600, 3_600, -86_400, 86_400, 8 * 365 * 86_400}
    assert 0.01 < (wrong.total() - wrong[0]) / len(moments) < 0.03


def test_of_a_days_documents_a_few_are_odd_as_a_whole() -> None:
    city = City(20260601)
    whole = [city.is_whole(WEDNESDAY + n * MINUTE) for n in range(24 * 60)]
    assert 2 <= whole.count(False) <= 20
