"""Whole recordings, real ones among them: what is counted here is read from the JSON independently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.model import Segment
from bikeflow.core.schema import ENHANCED
from bikeflow.feeds.gbfs.parsing import count_records, parse_files
from bikeflow.segments.table import collect, read, write
from bikeflow.settings.sections import RulesSettings
from tests.support.gbfs import HARBOUR, documents, history, malformed, packed, raw_content, recordings

RULES = RulesSettings()


def name_of(path: Path) -> str:
    """A recording's name in the list of tests."""
    return "-".join(path.parts[-2:])


def elements(folder: Path, document: str, *keys: str) -> list[Any]:
    """An array of a recording."""
    path = folder / f"{document}.json"
    data = json.loads(path.read_bytes())["data"] if path.is_file() else {}
    return next((data[key] for key in keys if key in data), [])


def total(values: list[Any]) -> int:
    """Sum of what is known."""
    return sum(value for value in values if value is not None and value != -1)


@pytest.mark.parametrize("folder", recordings(), ids=name_of)
def test_counts_are_those_of_an_independent_reading(folder: Path) -> None:
    stations = elements(folder, "station_status", "stations")
    vehicles = [
        vehicle
        for name in ("vehicle_status", "free_bike_status")
        for vehicle in elements(folder, name, "vehicles", "bikes")
    ]
    data = packed(documents(folder))
    (result,) = parse_files([raw_content(data)], RULES)
    assert result.lines == count_records(data).records == len(stations) + len(vehicles)
    assert result.lines == result.rows + result.rejected == result.rows + len(result.dead_letters)
    if folder == HARBOUR:
        return  # wrong on purpose
    table = result.table
    first = {str(item["station_id"]): item for item in reversed(stations)}
    assert result.rejected == len(stations) - len(first)
    kinds = table["record_type"].to_pylist()
    assert (kinds.count("station"), kinds.count("bike")) == (len(first), len(vehicles))
    bikes = [
        item["num_vehicles_available"] if "num_vehicles_available" in item else item.get("num_bikes_available")
        for item in first.values()
    ]
    free = [not (item["is_reserved"] or item["is_disabled"] or "station_id" in item) for item in vehicles]
    assert total(table["bikes"].to_pylist()) == total(bikes) + sum(free)
    assert total(table["spaces"].to_pylist()) == total([item.get("num_docks_available") for item in first.values()])
    assert all(value is None or value >= 0 for value in table["bikes"].to_pylist())


@pytest.mark.parametrize("folder", recordings(), ids=name_of)
def test_rows_become_a_segment_and_are_read_back(folder: Path) -> None:
    raw = raw_content(packed(documents(folder)))
    parsed = collect(parse_files([raw], RULES))
    partition = raw.raw.partition
    segment = Segment(partition, raw.raw.time.time().replace(minute=0, second=0), raw.raw.time.time())
    files = write(segment, [raw.raw.key], [parsed])
    if not parsed.table.num_rows:
        assert files.data == {}
        return
    again = read(files.data["enhanced"], partition.system_id)
    assert again is not None
    key = {"key": lambda row: row["station_id"]}
    rows = [sorted(one.table.cast(ENHANCED).to_pylist(), **key) for one in (again, parsed)]  # type: ignore[call-overload]
    assert rows[0] == rows[1]
    assert write(segment, [raw.raw.key], [again]).data == files.data


@pytest.mark.parametrize("path", malformed(), ids=lambda path: path.name)
def test_a_broken_document_that_was_served_is_a_dead_letter_where_records_are_read_from_it(path: Path) -> None:
    name = next(one for one in ("station_information", "station_status", "system_information") if one in path.name)
    good = documents(HARBOUR)
    before = parse_files([raw_content(packed(good))], RULES)[0]
    data = packed(good | {name: path.read_bytes()})
    (result,) = parse_files([raw_content(data)], RULES)
    broken = [letter for letter in result.dead_letters if letter.check == "document"]
    assert len(broken) == (name != "system_information")
    assert all("not JSON" in letter.message or "not UTF-8" in letter.message for letter in broken)
    assert count_records(data).records == result.lines == result.rows + result.rejected
    if name == "station_information":
        assert result.lines == before.lines + 1


@pytest.mark.parametrize(
    ("name", "document", "key", "count"),
    [
        ("bcycle_boulder", "station_status", "stations", "num_bikes_available"),
        ("wienmobil", "station_status", "stations", "num_bikes_available"),
        ("tier_wolfsburg", "free_bike_status", "bikes", None),
    ],
)
def test_a_recorded_history_gives_the_rows_that_plain_python_reads(
    name: str, document: str, key: str, count: str | None
) -> None:
    polls = history(name)
    every = max(len(polls) // 100, 1)
    for _, body in polls[::every]:
        (result,) = parse_files([raw_content(packed({document: body}))], RULES)
        items = json.loads(body)["data"][key]
        ids = [item.get("station_id") or item["bike_id"] for item in items]
        bikes = [item[count] if count else int(not (item["is_reserved"] or item["is_disabled"])) for item in items]
        assert (result.lines, result.rejected) == (len(items), 0)
        assert result.table["station_id"].to_pylist() == ids
        assert result.table["bikes"].to_pylist() == bikes
        assert result.table["spaces"].to_pylist() == [item.get("num_docks_available") for item in items]
        assert result.table["range_meters"].to_pylist() == [item.get("current_range_meters") for item in items]


BROKEN = {
    "cut off": b'{"data": {"stations": [{"station_id": "a"}',
    "a template": b'{"last_updated": {{timestamp}}, "data": {"stations": []}}',
    "a trailing comma": b'{"data": {"stations": [{"station_id": "a",}]}}',
    "not UTF-8": b'{"data": {"stations": [{"station_id": "\xc0"}]}}',
    "a page": b"<html><body>Bad gateway</body></html>",
    "nothing": b"",
    "too deep": b"[" * 100_000,
    "no data": b'{"last_updated": 5}',
    "no array": b'{"data": {"stations": {"a": 1}}}',
    "a number": b"5",
    "too many digits": b'{"data": {"stations": [' + b"9" * 10_000 + b"]}}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["station_status", "station_information"])
def test_a_document_that_cannot_be_read_is_one_rejected_record(name: str, body: bytes) -> None:
    good = documents(HARBOUR)
    data = packed(good | {name: body})
    (result,) = parse_files([raw_content(data)], RULES)
    (broken,) = (letter for letter in result.dead_letters if letter.check == "document")
    assert broken.message.startswith(f"{name}: ")
    assert broken.line_number == 1
    stations = 0 if name == "station_status" else len(elements(HARBOUR, "station_status", "stations"))
    expected = 1 + stations + len(elements(HARBOUR, "free_bike_status", "bikes"))
    assert count_records(data).records == result.lines == expected == result.rows + result.rejected


def test_an_object_that_cannot_be_read_is_one_dead_letter() -> None:
    for data in (b"", b"no zip", packed(documents(HARBOUR))[:-40]):
        (result,) = parse_files([raw_content(data)], RULES)
        (letter,) = result.dead_letters
        assert (letter.line_number, letter.check, result.lines, result.rejected, result.rows) == (
            None, "container", 1, 1, 0,
        )  # fmt: skip
        assert (count_records(data).records, count_records(data).readable) == (1, False)
