"""`bikeflow compare`: the same city twice, where it is known how far one source is behind the other."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.cli.matching import Station, matched, plain
from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.core.model import UTC
from bikeflow.simulator import NO_ODDITIES, City
from tests.support.gbfs import packed
from tests.support.service import configure

BEHIND = dt.timedelta(seconds=180)
STEP = dt.timedelta(seconds=60)
MINUTES = 90
BUSY = dt.datetime(2025, 5, 14, 13, tzinfo=UTC)
"""An afternoon: at night hardly anything changes, whenever the test runs."""
STATIONS, ONLY_CSV, ONLY_GBFS = 60, 3, 2


def gbfs_of(text: str, at: dt.datetime) -> bytes:
    """The stations of a WRM document as GBFS: other ids, names spelled another way, some stations missing or new."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row[0].isdecimal()][ONLY_CSV:]
    information = [
        {
            "station_id": f"u{row[0]}",
            "name": f"{row[0]} {row[2].upper()}",
            "lat": float(row[3]) + 0.0002,
            "lon": float(row[4]),
        }
        for row in rows
    ]
    information += [{"station_id": f"new{n}", "name": f"New {n}", "lat": 50 + n, "lon": 10} for n in range(ONLY_GBFS)]
    status = [
        {"station_id": f"u{row[0]}", "num_bikes_available": int(row[5]), "last_reported": int(at.timestamp()) - 30}
        for row in rows
    ]
    status += [{"station_id": f"new{n}", "num_bikes_available": 1} for n in range(ONLY_GBFS)]
    return packed(
        {
            name: json.dumps({"last_updated": 0, "ttl": 0, "data": {"stations": stations}}).encode()
            for name, stations in (("station_information", information), ("station_status", status))
        }
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a city as CSV, and as GBFS that is three minutes behind."""
    folder = tmp_path_factory.mktemp("compare")
    city, path = City(7, stations=STATIONS, free_bikes=5, oddities=NO_ODDITIES), folder / "config.toml"
    systems = [
        {"id": "csv", "url": "http://127.0.0.1:9/"},
        {"id": "gbfs", "format": "gbfs", "url": "http://127.0.0.1:9/gbfs.json"},
    ]
    configure(path, {"data_dir": folder / "data", "systems": systems, "log.level": "error"})
    now = dt.datetime.now(UTC).replace(microsecond=0)
    for minute in range(MINUTES):
        at = now - (MINUTES - minute) * STEP
        life = BUSY + minute * STEP
        text, late = city.snapshot(at, world_time=life), city.snapshot(at - BEHIND, world_time=life - BEHIND)
        for system, stem, data in (("csv", "wrm_stations", text.encode()), ("gbfs", "gbfs", gbfs_of(late, at))):
            ending = "txt" if system == "csv" else "zip"
            file = (
                folder / "data/lake/bike-data" / system / f"raw/dt={at:%Y-%m-%d}/{stem}_{at:%Y-%m-%d_%H-%M-%S}.{ending}"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    assert CliRunner().invoke(app, ["backfill", "--config", str(path)]).exit_code == 0
    return path


def compared(config: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["compare", *arguments, "--config", str(config), "--json"])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def test_the_same_stations_are_found_and_what_only_one_has_is_told(config: Path) -> None:
    found = compared(config, "csv", "gbfs")
    assert found["stations_in_both"] == STATIONS - ONLY_CSV
    assert sum(found["matched_by"].values()) == STATIONS - ONLY_CSV and found["matched_by"]["name"] > STATIONS / 2
    assert len(found["only_first"]) == ONLY_CSV
    assert [station["name"] for station in found["only_second"]] == ["New 0", "New 1"]
    first, second = found["systems"]
    assert (first["stations"], second["stations"]) == (STATIONS, STATIONS - ONLY_CSV + ONLY_GBFS)
    assert second["reported_before_seconds"] == 30
    bikes = found["bikes"]
    assert bikes["compared"] == STATIONS - ONLY_CSV == sum(bikes["differences"].values())
    assert bikes["equal"] <= bikes["within_one"] <= bikes["compared"]


def test_the_lag_of_one_behind_the_other_is_measured_from_either_side(config: Path) -> None:
    changes = compared(config, "csv", "gbfs")["changes"]
    assert changes["second_later_seconds"] == BEHIND.total_seconds()
    assert changes["both_saw"] > 50 and changes["first_sooner"] > 0.8 * changes["both_saw"]
    assert compared(config, "gbfs", "csv")["changes"]["second_later_seconds"] == -BEHIND.total_seconds()


def test_it_reads_well(config: Path) -> None:
    text = CliRunner().invoke(app, ["compare", "csv", "gbfs", "--config", str(config)]).stdout
    assert "csv sees them first, by 3 min in the median" in text
    assert "only in gbfs: New 0 (new0), New 1 (new1)" in text
    assert max(map(len, text.splitlines())) <= 160


def test_what_can_not_be_compared(config: Path) -> None:
    with pytest.raises(ConfigError, match="no such system"):
        compared(config, "csv", "nyc")
    with pytest.raises(ConfigError, match="the same system twice"):
        compared(config, "csv", "csv")
    text = config.read_text() + '\n[[systems]]\nid = "empty"\nurl = "http://127.0.0.1:9/"\n'
    more = config.with_name("more.toml")
    more.write_text(text)
    with pytest.raises(BikeflowError, match="empty has no snapshot"):
        compared(more, "csv", "empty")


def test_names_are_compared_without_case_accents_punctuation_and_leading_numbers() -> None:
    assert plain("15002 Dworzec Główny, południe") == plain("DWORZEC GLOWNY – POLUDNIE") == "dworzec glowny poludnie"
    assert plain("12") == "12" and plain(None) == ""


def test_an_id_or_name_that_is_far_away_or_there_twice_is_no_match() -> None:
    here, far = Station("1", "Rynek", 51.1, 17.0, 3), Station("1", "Rynek", 52.2, 21.0, 3)
    assert matched([here], [far]) == []
    twice = [Station("a", "Rynek", 51.1, 17.0, 3), Station("b", "Rynek", 51.1001, 17.0, 4)]
    (pair,) = matched([here], twice)
    assert (pair.by, pair.second.id) == ("place", "a")
    nowhere = Station("x", "rynek", None, None, 3)
    assert [pair.by for pair in matched([here], [nowhere])] == ["name"]
