"""The city's figures are the same wherever they are told, and are those of a real snapshot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.model import UTC
from tests.support.lines import raw_file, station
from tests.support.real import REAL
from tests.surfaces.conftest import NOON, Scene

TAKEN_AT = dt.datetime(2025, 5, 31, 13, 50, 5, tzinfo=UTC)


async def test_all_tell_the_same_of_a_real_snapshot(scene: Scene, tmp_path: Path) -> None:
    """Of its 513 free bikes 385 stand in Warsaw, and 43 of its stations are full, though each has a space."""
    (file,) = REAL.rglob("*2025-05-31*.txt")
    await scene.arrives(file.read_text(encoding="utf-8"), TAKEN_AT)
    status = (await scene.client.ask("/api/v1/status")).json
    counts = {"stations": 235, "stations_outside": 0, "free_bikes": 128, "free_bikes_outside": 385}
    assert status["city"] | {**counts, "empty_stations": 17, "full_stations": 43} == status["city"]
    counts |= {"stations_empty": 17, "stations_full": 43, "future_snapshots": 0}
    assert status["database"] | counts == status["database"]
    metrics = (await scene.client.ask("/metrics")).text
    names = ("stations", "outside_stations", "free_bikes", "outside_free_bikes", "empty_stations", "full_stations")
    lines = [f"\nbikeflow_{name} {count}.0\n" for name, count in zip(names, counts.values(), strict=False)]
    assert [line for line in lines if line not in metrics] == []
    stations = (await scene.client.ask("/api/v1/stations")).json["features"]
    assert sum(item["properties"]["is_full"] for item in stations) == 43
    assert all(item["properties"]["spaces"] > 0 for item in stations)
    shown = CliRunner().invoke(app, ["summary", "--data-dir", str(tmp_path)]).stdout
    assert "235 in the newest snapshot, 17 of them empty and 43 full" in shown
    assert "128 in the newest snapshot; 385 more outside the service area" in shown


async def test_a_snapshot_dated_in_the_future_is_told_and_does_not_win(scene: Scene, tmp_path: Path) -> None:
    await scene.arrives(raw_file(station(1, bikes="3")), NOON)
    await scene.arrives(raw_file(station(1, bikes="4")), dt.datetime(2090, 1, 1, tzinfo=UTC))
    status = (await scene.client.ask("/api/v1/status")).json
    assert status["database"] | {"newest_snapshot": "2025-06-01T12:00:00Z", "future_snapshots": 1} == status["database"]
    assert [point[1] for point in status["city"]["last_day"]] == [3.0]
    (found,) = (await scene.client.ask("/api/v1/stations")).json["features"]
    assert found["properties"]["bikes"] == 3
    frames = (await scene.client.ask("/api/v1/map")).json["frames"]
    assert [frame["at"] for frame in frames] == [int(NOON.timestamp()), None]
    assert "\nbikeflow_future_snapshots 1.0\n" in (await scene.client.ask("/metrics")).text
    shown = CliRunner().invoke(app, ["summary", "--data-dir", str(tmp_path)]).stdout
    assert "1 snapshot is dated in the future, and counts once its time has come" in shown
