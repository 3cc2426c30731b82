"""`bikeflow summary`, `density`, `catalog` and `lineage`: what people and programs get from them."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import BikeflowError
from tests.support.lines import raw_file, station
from tests.support.parquet import DAY, at, row, snapshot
from tests.warehouse.conftest import open_analytics
from tests.warehouse.test_tables import publish, travelled


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stations, two of them in one cell, and two free bikes elsewhere; one hour of history."""
    path = tmp_path_factory.mktemp("tables") / "data"

    async def publish() -> None:
        async with open_analytics(path) as analytics:
            rows = snapshot(at(8), "1", "2") + snapshot(at(8, 30), "1", "2", bikes=0)
            bikes = snapshot(at(8, 30), "fb1", "fb2", lat=51.15, lon=16.9)
            await analytics.layer.put_hour(8, *rows, row("3", at(8, 30), lat=51.12, lon=17.0, bikes=9), *bikes)
            await analytics.refresh()

    asyncio.run(publish())
    return path


def answer(data_dir: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def document(data_dir: Path, *arguments: str) -> Any:
    return json.loads(answer(data_dir, *arguments, "--json"))


def test_the_summary_counts_all_and_tells_of_each_station(data_dir: Path) -> None:
    told = document(data_dir, "summary")
    assert (told["rows"], told["stations"], told["bikes"], told["snapshots"]) == (7, 3, 2, 2)
    assert (told["first_snapshot"], told["newest_snapshot"]) == ("2025-06-01T08:00:00", "2025-06-01T08:30:00")
    assert [(day["date"], day["longest_gap_seconds"]) for day in told["coverage"]] == [("2025-06-01", 0.0)]
    stations = {item["station_id"]: item for item in told["station_summary"]}
    assert stations.keys() == {"1", "2", "3"}
    assert (stations["1"]["mean_bikes"], stations["1"]["share_empty"]) == (7.0, 0.0)
    assert told["gaps"] == []
    text = answer(data_dir, "summary")
    assert "7, and 0 rejected lines" in text and "Stacja „1”" in text and "2025-06-01" in text


def test_the_summary_names_the_days_without_any_snapshot(tmp_path: Path) -> None:
    async def publish() -> None:
        async with open_analytics(tmp_path) as analytics:
            for day in (DAY, DAY + dt.timedelta(1), DAY + dt.timedelta(5)):
                await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1"), day=day)
            await analytics.refresh()

    asyncio.run(publish())
    told = document(tmp_path, "summary")
    assert (told["days"], told["days_missing"]) == (3, 3)
    assert told["gaps"] == [{"first": "2025-06-03", "last": "2025-06-05", "days": 3, "files": 0}]
    assert [day["longest_gap_seconds"] for day in told["coverage"]] == [*5 * [4 * 86_400 - 1800.0], 86_400 - 1800.0]
    assert "2025-06-03 │ 2025-06-05 │    3" in answer(tmp_path, "summary")


async def test_a_day_of_files_that_cant_be_read_is_a_day_without_snapshots(tmp_path: Path) -> None:
    days = [DAY + dt.timedelta(number) for number in range(3)]
    async with travelled(tmp_path) as (road, analytics):
        for day, text in zip(days, (raw_file(station(1)), "<html>", raw_file(station(1))), strict=True):
            await road.put_raw(f"dt={day}/wrm_stations_{day}_08-00-00.txt", text)
        await publish(road, analytics)
    told = document(tmp_path, "summary")
    assert (told["days"], told["days_missing"]) == (2, 1)
    assert told["gaps"] == [{"first": "2025-06-02", "last": "2025-06-02", "days": 1, "files": 1}]
    assert "2 with snapshots, and 1 without any" in answer(tmp_path, "summary")


def test_the_fullest_cells_come_first(data_dir: Path) -> None:
    cells = document(data_dir, "density")
    assert [(cell["bike_count"], cell["stations"]) for cell in cells] == [(9, ["3"]), (2, []), (0, ["1", "2"])]
    assert document(data_dir, "density", "--top", "1") == cells[:1]
    assert "11 bikes in 3 cells in all, 2 of them free; 3 stations" in answer(data_dir, "density", "--top", "1")
    table = list(csv.DictReader(io.StringIO(answer(data_dir, "density", "--format", "csv"))))
    assert [item["cell_id"] for item in table] == [cell["cell_id"] for cell in cells]


def test_geojson_has_a_closed_counterclockwise_square_for_each_cell(data_dir: Path) -> None:
    told = json.loads(answer(data_dir, "density", "--format", "geojson"))
    assert told["type"] == "FeatureCollection" and len(told["features"]) == 3
    feature = told["features"][0]
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1] and len(ring) == 5
    doubled = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))
    assert doubled > 0
    west, east, south, north = ring[0][0], ring[1][0], ring[0][1], ring[2][1]
    assert west <= 17.0 < east and south <= 51.12 < north
    assert feature["properties"]["bike_count"] == 9 and feature["id"] == feature["properties"]["cell_id"]


def test_geoparquet_has_the_same_squares_and_says_so_in_its_footer(data_dir: Path) -> None:
    told = json.loads(answer(data_dir, "density", "--format", "geojson"))["features"]
    result = CliRunner().invoke(app, ["density", "--format", "geoparquet", "--data-dir", str(data_dir)])
    file = pq.ParquetFile(io.BytesIO(result.stdout_bytes))
    geo = json.loads(file.metadata.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert geo["primary_column"] == "geometry" and column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"] and column.get("crs") is None
    rows = file.read().to_pylist()
    assert [found["cell_id"] for found in rows] == [feature["id"] for feature in told]
    for found, feature in zip(rows, told, strict=True):
        # little endian, a polygon of one ring with five points
        assert found["geometry"][:13] == struct.pack("<BIII", 1, 3, 1, 5)
        points = list(struct.iter_unpack("<dd", found["geometry"][13:]))
        assert points == [tuple(point) for point in feature["geometry"]["coordinates"][0]]


def test_the_catalog_describes_all_or_one_table(data_dir: Path) -> None:
    everything = document(data_dir, "catalog")
    assert all(entry["description"] for entry in everything)
    one = document(data_dir, "catalog", "bike_density")
    assert one == [e for e in everything if (e["schema_name"], e["object"]) == ("wrm_analytics", "bike_density")]
    assert "station_summary" in answer(data_dir, "catalog")
    assert "share_empty" in answer(data_dir, "catalog", "station_summary")
    with pytest.raises(BikeflowError, match="there is no tables"):
        answer(data_dir, "catalog", "tables")


def test_lineage_goes_back_to_the_feed(data_dir: Path) -> None:
    edges = {(edge["object"], edge["source"]) for edge in document(data_dir, "lineage")}
    assert ("raw files", "feed") in edges and ("station_changes", "open_station_changes") in edges
    assert {edge["object"] for edge in document(data_dir, "lineage", "bike_density")} == {"bike_density"}
    upstream = answer(data_dir, "lineage", "bike_density")
    assert all(name in upstream for name in ("current_rows", "mirror", "enhanced layer", "raw files", "feed"))
    with pytest.raises(BikeflowError, match="there is no tables"):
        answer(data_dir, "lineage", "tables")


@pytest.mark.parametrize("command", ["summary", "density", "catalog", "lineage"])
def test_an_empty_database_and_a_missing_one_are_told_apart(tmp_path: Path, command: str) -> None:
    with pytest.raises(BikeflowError, match="there is no database"):
        answer(tmp_path, command)

    async def publish() -> None:
        async with open_analytics(tmp_path) as analytics:
            await analytics.refresh()

    asyncio.run(publish())
    assert answer(tmp_path, command)
    document(tmp_path, command)
