"""`bikeflow service-levels`: by station, period and district."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.core.errors import BikeflowError, ConfigError
from tests.support.parquet import DAY, at, row
from tests.warehouse.conftest import open_analytics


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From 8:00 to 8:30 (10:00 in local time): station 1 is empty for 10 and 5 minutes, 2 is full for 20."""
    path = tmp_path_factory.mktemp("levels") / "data"

    async def publish() -> None:
        async with open_analytics(path) as analytics:
            bikes = {0: (0, 15), 10: (3, 15), 15: (0, 15), 20: (3, 9), 30: (3, 9)}
            rows = [
                row(station, at(8, minute), bikes=count, lat=51.1 + place, lon=17.03)
                for minute, counts in bikes.items()
                for station, count, place in zip(("1", "2"), counts, (0, 0.05), strict=True)
            ]
            await analytics.layer.put_hour(8, *rows)
            await analytics.refresh()

    asyncio.run(publish())
    return path


def answer(data_dir: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["service-levels", *arguments, "--data-dir", str(data_dir)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def document(data_dir: Path, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer(data_dir, *arguments, "--json"))
    return found


def square(name: object, south: float) -> dict[str, Any]:
    """An area of a tenth of a degree."""
    ring = [[16.9, south], [17.2, south], [17.2, south + 0.04], [16.9, south + 0.04], [16.9, south]]
    return {
        "type": "Feature",
        "properties": {"osiedle": name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def geojson(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_each_station_has_a_row(data_dir: Path) -> None:
    first, second = document(data_dir)
    assert (first["station_id"], first["known_seconds"], first["empty_seconds"]) == ("1", 1800, 900)
    assert (first["empty_episodes"], first["longest_empty_seconds"]) == (2, 600)
    assert (second["full_seconds"], second["full_episodes"], second["longest_full_seconds"]) == (1200, 1, 1200)
    text = answer(data_dir)
    assert "Stacja" in text and "50.0" in text and "2025-06-01 to 2025-06-01 in local time" in text


@pytest.mark.parametrize(("by", "period"), [("hour", {"local_hour": 10}), ("day", {}), ("week", {})])
def test_or_one_for_each_period(data_dir: Path, by: str, period: dict[str, int]) -> None:
    (only,) = document(data_dir, "--by", by, "--station", "1", "--from", "2025-05-26")
    assert only["local_date"] == ("2025-05-26" if by == "week" else str(DAY))
    assert only["empty_seconds"] == 900 and only.items() >= period.items()
    (line,) = csv.DictReader(
        io.StringIO(answer(data_dir, "--by", by, "--station", "1", "-f", "csv", "--from", "2025-05-26"))
    )
    assert line["empty_seconds"] == "900.0"


def test_districts_sum_up_their_stations(data_dir: Path, tmp_path: Path) -> None:
    areas = geojson(tmp_path / "areas.geojson", square("Stare Miasto", 51.08), square("Nadodrze", 51.2))
    inside, outside = document(data_dir, "--districts", str(areas), "--district-name", "osiedle")
    assert (inside["district"], inside["stations"], inside["empty_seconds"]) == ("Stare Miasto", 1, 900)
    assert (outside["district"], outside["full_seconds"]) == ("outside all districts", 1200)
    assert "Stare Miasto" in answer(data_dir, "--districts", str(areas), "--district-name", "osiedle")


def test_what_is_wrong_is_told(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no property 'name' \\(it has: osiedle\\); see --district-name"):
        answer(data_dir, "--districts", str(geojson(tmp_path / "a.json", square("x", 51))))
    (tmp_path / "text.json").write_text("nothing")
    with pytest.raises(ConfigError, match="is no GeoJSON FeatureCollection"):
        answer(data_dir, "--districts", str(tmp_path / "text.json"))
    with pytest.raises(ConfigError, match="No such file"):
        answer(data_dir, "--districts", str(tmp_path / "none.json"))
    point = {"type": "Feature", "properties": {"name": "P"}, "geometry": {"type": "Point", "coordinates": [17, 51]}}
    with pytest.raises(ConfigError, match="P is a Point; districts are polygons"):
        answer(data_dir, "--districts", str(geojson(tmp_path / "p.json", point)))
    with pytest.raises(ConfigError, match="--from 2025-06-03 is after --to 2025-06-01"):
        answer(data_dir, "--from", "2025-06-03")
    with pytest.raises(BikeflowError, match="there is no station 99"):
        answer(data_dir, "--station", "99")
