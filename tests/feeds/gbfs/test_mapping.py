"""From records to rows, column by column."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from bikeflow.core.schema import ENCODED
from bikeflow.feeds.base import ParsedFile
from bikeflow.feeds.gbfs.parsing import count_records, parse_files
from bikeflow.feeds.gbfs.records import Context, station_row, vehicle_row
from bikeflow.feeds.gbfs.values import Rejected
from bikeflow.settings.sections import RulesSettings
from tests.support.gbfs import AT, HARBOUR, HILL, OLD, documents, packed, raw_content

OSLO = RulesSettings(lat_min=59.8, lat_max=60.0, lon_min=10.6, lon_max=10.9)


def parsed(bodies: dict[str, bytes], rules: RulesSettings = OSLO) -> ParsedFile:
    """What a raw object of these documents gives."""
    data = packed(bodies)
    (result,) = parse_files([raw_content(data)], rules)
    assert result.lines == count_records(data).records == result.rows + result.rejected
    assert result.table.schema == ENCODED
    return result


def rows(result: ParsedFile) -> dict[str, dict[str, Any]]:
    """Its rows by id, without what is null."""
    return {
        row["station_id"]: {name: value for name, value in row.items() if value is not None}
        for row in result.table.to_pylist()
    }


def naive(text: str) -> dt.datetime:
    """A time as Parquet files have it."""
    return dt.datetime.fromisoformat(text)


def test_a_vehicle_may_have_the_id_of_a_station() -> None:
    bodies = documents(HARBOUR)
    status = json.loads(bodies["free_bike_status"])
    station_id = json.loads(bodies["station_status"])["data"]["stations"][0]["station_id"]
    status["data"]["bikes"][0]["bike_id"] = station_id
    result = parsed(bodies | {"free_bike_status": json.dumps(status).encode()})
    found = [row["record_type"] for row in result.table.to_pylist() if row["station_id"] == station_id]
    assert found == ["station", "bike"]


def station(**fields: object) -> dict[str, Any]:
    """The row of one station of that id and these fields."""
    return station_row({"station_id": "a", **fields}, Context())


def test_stations_and_vehicles_of_version_2() -> None:
    found = rows(parsed(documents(HARBOUR)))
    time = AT.replace(tzinfo=None)
    same = {
        "s3_source_key": "bike-data/harbour/raw/dt=2025-05-31/harbour_2025-05-31_13-50-05.zip",
        "file_timestamp": time,
        "date": time.date(),
        "processed_at": time,
        "quality_flags": [],
    }
    columns = set(ENCODED.names)
    expected = {
        "h1": {
            "name": "Fish Market",
            "timestamp": naive("2025-05-31T13:50:00"),
            "lat": 59.9101,
            "lon": 10.7301,
            "bikes": 5,
            "spaces": 6,
            "installed": True,
            "locked": False,
            "total_docks": 12,
            "pedelecs": 2,
            "record_type": "station",
            "is_returning": True,
            "bikes_disabled": 1,
            "docks_disabled": 0,
        },
        "h2": {
            "name": "Østre Pier",
            "timestamp": naive("2025-05-29T06:26:40"),
            "lat": 59.9202,
            "lon": 10.7402,
            "bikes": 7,
            "spaces": 0,
            "installed": True,
            "locked": True,
            "temporary": True,
            "total_docks": 4,
            "record_type": "station",
            "is_returning": True,
            "quality_flags": ["over_capacity", "stale_timestamp"],
        },
        "h3": {
            "name": "Dry Dock",
            "lat": 59.9303,
            "lon": 10.7503,
            "installed": False,
            "locked": True,
            "total_docks": 8,
            "record_type": "station",
            "is_returning": False,
        },
        "h5": {
            "timestamp": naive("2025-05-31T13:50:00"),
            "bikes": 2,
            "spaces": 3,
            "installed": True,
            "locked": False,
            "record_type": "station",
            "is_returning": False,
        },
        "v1": {
            "timestamp": naive("2025-05-31T13:49:59"),
            "lat": 59.9111,
            "lon": 10.7311,
            "bikes": 1,
            "locked": False,
            "pedelecs": 1,
            "record_type": "bike",
            "battery_level": 25,
            "vehicle_type": "ebike",
            "bikes_disabled": 0,
            "range_meters": 15000.5,
        },
        "v2": {
            "lat": 59.9112,
            "lon": 10.7312,
            "bikes": 0,
            "locked": True,
            "pedelecs": 0,
            "record_type": "bike",
            "vehicle_type": "scooter",
            "bikes_disabled": 0,
        },
        "v3": {
            "lat": 59.9113,
            "lon": 10.7313,
            "bikes": 0,
            "locked": False,
            "record_type": "bike",
            "vehicle_type": "unheard_of",
            "bikes_disabled": 1,
        },
        "v4": {
            "lat": 59.9303,
            "lon": 10.7503,
            "bikes": 0,
            "locked": False,
            "pedelecs": 0,
            "record_type": "bike",
            "vehicle_type": "city",
            "bikes_disabled": 0,
        },
    }
    assert found == {
        key: {name: value for name, value in {"station_id": key, **same, **row}.items() if name in columns}
        for key, row in expected.items()
    }


def test_what_is_impossible_is_rejected_record_by_record() -> None:
    letters = parsed(documents(HARBOUR)).dead_letters
    assert [(letter.line_number, letter.column, letter.check, letter.value) for letter in letters] == [
        (5, "lat", "range", "159.94"),
        (6, "station_id", "unique", "h1"),
        (7, "num_bikes_available", "range", "-4"),
        (8, "num_bikes_available", "type", "2.5"),
        (9, "is_installed", "type", "perhaps"),
        (10, "station_id", "required", ""),
        (11, None, "type", None),
        (16, "lon", "range", "190.5"),
        (17, "bike_id", "unique", "v1"),
        (18, "vehicle_id", "required", None),
    ]
    assert letters[2].message == "station_status: num_bikes_available must be at least 0"
    assert json.loads(letters[2].raw_line)["station_id"] == "h6"


def test_version_3_with_names_in_several_languages_and_times_of_rfc_3339() -> None:
    found = rows(parsed(documents(HILL), RulesSettings(lat_min=47, lat_max=48, lon_min=13, lon_max=14)))
    assert [(row.get("name"), row.get("bikes"), row.get("spaces"), row.get("total_docks"), row.get("pedelecs"),
             row["timestamp"]) for row in found.values()] == [
        ("Summit", 2, 0, 3, 2, naive("2025-05-31T13:50:05.250000")),
        ("Talstation", 0, None, 0, 0, naive("2025-05-31T13:50:00")),
        (None, 1, None, None, 1, naive("2025-05-31T13:49:00")),
    ]  # fmt: skip
    assert {row["quality_flags"] == [] for row in found.values()} == {True}


def test_version_1_with_numbers_for_ids_and_truth_values() -> None:
    found = rows(parsed(documents(OLD)))
    assert [(key, row.get("name"), row["bikes"], row.get("total_docks"), row.get("pedelecs"), row["installed"],
             row["locked"], row["timestamp"]) for key, row in found.items()] == [
        ("1", "Town Hall", 10, 15, 4, True, False, naive("2025-05-31T13:49:50")),
        ("2", None, 0, None, None, True, True, naive("2025-05-31T13:49:50.123000")),
    ]  # fmt: skip
    assert {tuple(row["quality_flags"]) for row in found.values()} == {("outside_service_area",)}


def test_unknown_is_null() -> None:
    row = station(num_bikes_available=-1, num_docks_available=None, last_reported=-1, is_renting=None)
    assert {name: value for name, value in row.items() if value is not None} == {
        "station_id": "a",
        "record_type": "station",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1748699400, 1748699400_000_000),
        (1748699400.25, 1748699400_250_000),
        ("1748699400", 1748699400_000_000),
        (1748699400123, 1748699400_123_000),
        ("2025-05-31T13:50:00Z", 1748699400_000_000),
        ("2025-05-31T15:50:00.5+02:00", 1748699400_500_000),
        (0, None),
        (86400, None),
    ],
)
def test_times_in_every_form_that_feeds_use(value: object, expected: int | None) -> None:
    assert station(last_reported=value)["timestamp"] == expected


@pytest.mark.parametrize("value", ["soon", -5, True, [], 10**30, float("nan"), float("inf"), "9999999999999999"])
def test_what_is_no_time_is_rejected(value: object) -> None:
    with pytest.raises(Rejected):
        station(last_reported=value)


@pytest.mark.parametrize("value", [-2, 2.5, True, "many", {}, 10**400, float("nan"), 2**63, "1e3"])
def test_what_is_no_count_is_rejected(value: object) -> None:
    with pytest.raises(Rejected):
        station(num_bikes_available=value)


@pytest.mark.parametrize("value", [None, "", True, 1.5, [], {}, "\ud800"])
def test_what_is_no_id_is_rejected(value: object) -> None:
    with pytest.raises(Rejected):
        station(station_id=value)


def test_the_newer_name_of_a_count_goes_before_the_older_one() -> None:
    assert station(num_bikes_available=1, num_vehicles_available=2)["bikes"] == 2
    assert station(num_bikes_available=1, num_vehicles_available=None)["bikes"] == 1


def test_electric_bicycles_by_the_fields_of_vendors() -> None:
    assert station(num_ebikes_available=3)["pedelecs"] == 3
    assert station(num_bikes_available_types={"mechanical": 4, "ebike": 5})["pedelecs"] == 5
    assert station(num_bikes_available_types={"electric": 6, "smart": 0})["pedelecs"] == 6
    assert station(num_ebikes_available="?", num_bikes_available_types=[])["pedelecs"] is None


def test_a_vehicle_that_does_not_tell_whether_it_can_be_taken_is_unknown() -> None:
    assert vehicle_row({"vehicle_id": "a", "lat": 1, "lon": 2}, Context())["bikes"] is None
    assert vehicle_row({"vehicle_id": "a", "is_reserved": True}, Context())["bikes"] == 0


def test_half_of_a_surrogate_pair_can_be_written_down() -> None:
    bodies = {
        "station_information": rb'{"data": {"stations": [{"station_id": "a", "name": "\ud800x"}]}}',
        "station_status": rb'{"data": {"stations": [{"station_id": "a"}, {"station_id": "\udc00"}]}}',
    }
    result = parsed(bodies)
    assert result.table["name"].to_pylist() == ["?x"]
    assert result.dead_letters[0].raw_line == '{"station_id": "?"}'
