"""`bikeflow run` with systems of format gbfs, from real servers to the published database, and `bikeflow verify`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import duckdb
import pytest

from tests.support.gbfs import HARBOUR, HILL
from tests.support.gbfsserver import serve_gbfs
from tests.support.service import PATIENCE_SECONDS, running

pytestmark = pytest.mark.timeout(180)
SNAPSHOTS = 5
PATHS = ("/", "/map", "/metrics", "/api/v1/status", "/api/v1/map", "/api/v1/stations", "/api/v1/bikes")
OSLO = {"lat_min": 59.8, "lat_max": 60.0, "lon_min": 10.6, "lon_max": 10.9}
COUNT = "SELECT count(DISTINCT s3_source_key) FROM analytics.history WHERE system_id = '{}'"


def table(system_id: str, url: str, **values: object) -> dict[str, object]:
    """A `[[systems]]` table."""
    return {"id": system_id, "format": "gbfs", "url": url, "interval_seconds": 1, **values}


async def verified(config: Path) -> dict[str, Any]:
    """What `bikeflow verify --json` says after parsing every raw file again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", "verify", "--config", str(config), "--full", "--json",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    report: dict[str, Any] = json.loads(output)
    return report


def change(number: int) -> Any:
    """A change of a station_status: the first station's bikes become unknown and known again, the second's many."""

    def edit(document: dict[str, Any]) -> None:
        stations = document["data"]["stations"]
        field = next(name for name in ("num_vehicles_available", "num_bikes_available") if name in stations[0])
        stations[0][field] = number if number % 2 else -1
        stations[1][field] = number

    return edit


async def test_the_service_publishes_gbfs_systems_and_verify_proves_it(tmp_path: Path) -> None:
    data_dir, config = tmp_path / "data", tmp_path / "config.toml"
    async with serve_gbfs(HARBOUR) as harbour, serve_gbfs(HILL) as hill:
        systems = [table("harbour", harbour.url, **{f"rules.{name}": value for name, value in OSLO.items()}),
                   table("hill", hill.url)]  # fmt: skip
        harbour.set_ttl(0)
        async with running(data_dir, "", config=config, settings={"systems": systems}) as service:
            for number in range(1, SNAPSHOTS + 1):
                for system_id, server in (("harbour", harbour), ("hill", hill)):
                    await service.sees(COUNT.format(system_id), number)
                    if number < SNAPSHOTS:
                        server.edit("station_status", change(number))
            async with aiohttp.ClientSession(await service.url()) as session:
                for path in (
                    "/",
                    "/map",
                    "/api/v1/status",
                    "/api/v1/map",
                    "/api/v1/stations",
                    "/api/v1/bikes",
                    "/metrics",
                ):
                    async with session.get(path) as answer:
                        assert answer.status == 200, path
            assert await service.stop() == 0, service.log()[-5000:]
            assert "level=error" not in service.log()
    report = await verified(config)
    assert report["findings"] == [] and report["proved"]
    lines = SNAPSHOTS * ((11 + 7) + (2 + 1))
    assert (report["raw_files"], report["lines"]) == (2 * SNAPSHOTS, lines)
    assert report["rejected"] == SNAPSHOTS * 10 and report["rows"] == lines - SNAPSHOTS * 10
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as connection:
        latest = connection.execute(
            "SELECT system_id, station_id, name, bikes, spaces FROM analytics.stations_latest ORDER BY ALL"
        ).fetchall()
        assert latest == [
            ("harbour", "h1", "Fish Market", None, 6),
            ("harbour", "h2", "Østre Pier", 4, 0),
            ("harbour", "h3", "Dry Dock", None, None),
            ("harbour", "h5", None, 2, 3),
            ("hill", "foot", "Talstation", 4, None),
            ("hill", "top", "Summit", None, 0),
        ]
        vehicles = connection.execute(
            "SELECT station_id, bikes, vehicle_type, bikes_disabled, range_meters, battery_level, is_returning"
            " FROM analytics.bikes_latest ORDER BY ALL"
        ).fetchall()
        assert vehicles == [
            ("7f3a", 1, "cargo", 0, 21000.0, None, None),
            ("v1", 1, "ebike", 0, 15000.5, 25, None),
            ("v2", 0, "scooter", 0, None, None, None),
            ("v3", 0, "unheard_of", 1, None, None, None),
            ("v4", 0, "city", 0, None, None, None),
        ]
        stations = "SELECT is_returning, bikes_disabled, docks_disabled FROM analytics.stations_latest"
        assert connection.execute(f"{stations} WHERE station_id = 'h1'").fetchall() == [(True, 1, 0)]
        hourly = connection.execute(
            "SELECT station_id, sum(observations), sum(mean_bikes * observations) / sum(observations), min(min_bikes),"
            " max(max_bikes), any_value(mean_spaces) FROM analytics.station_hourly GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        assert [row[:2] for row in hourly] == [(key, SNAPSHOTS) for key in ("foot", "h1", "h2", "h3", "h5", "top")]
        assert {row[0]: row[3:] for row in hourly}["h3"] == (None, None, None)
        assert {row[0]: row[3:5] for row in hourly}["h1"] == (1, 5)
        assert connection.execute("SELECT count(*) FROM analytics.bike_density WHERE cell_id IS NULL").fetchall() == [
            (0,)
        ]
