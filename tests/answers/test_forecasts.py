"""The forecast, and its scores: the same as the model gives on figures of plain Python, whatever happened."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.http.published import PublishedDatabase, instance
from bikeflow.segments.footer import read_footer
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse import Warehouse
from tests.answers.forecasts import assert_forecast
from tests.answers.lake import Lake
from tests.answers.replays import lake_of, make_up

EVERY_SECONDS = 3600
MARCH_20 = dt.date(2024, 3, 20)
"""The clocks change on the 31st."""


def days(lake: Lake, folder: Path, count: int) -> None:
    """Put these days of the city into the lake, a snapshot each hour."""
    replay = lake_of(make_up(folder / "replay", MARCH_20, count, EVERY_SECONDS), folder / "source", EVERY_SECONDS)
    for key, data in replay.raw_files.items():
        lake.put(key, data)
    lake.polls = replay.polls


def told(lake: Lake, *arguments: str) -> str:
    """What the command says."""
    result = CliRunner().invoke(app, ["forecast", *arguments, "--config", str(lake.folder / "config.toml")])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def counts(lake: Lake) -> list[int]:
    """How many rows each table has."""
    names = ("station_forecast", "forecast_bins", "forecast_scores", "forecast_status")
    return [number for name in names for (number,) in lake.query(f"SELECT count(*) FROM {name}")]


def assert_made_in_time(lake: Lake, folder: Path) -> None:
    """A service leaves to its next refreshes what takes too long, says so, and has the same in the end."""
    shutil.copytree(lake.folder / "data/mirror", folder / "mirror")
    paths = (folder / "mirror/enhanced").glob(f"system_id={lake.id}/dt=*/*.parquet")
    files = {footer.segment: path for path in paths if (footer := read_footer(path, lake.id))}
    warehouse = Warehouse(WarehouseSettings(), folder, systems={lake.id: lake.zone})
    told = []
    with contextlib.closing(warehouse):
        for seconds in (0.0, None):
            warehouse.daily_seconds = seconds
            warehouse.refresh(files)
            with contextlib.closing(duckdb.connect(warehouse.path, read_only=True)) as reader:
                queries = (
                    "FROM forecast_status",
                    "SELECT (SELECT count(*) FROM station_forecast), (SELECT count(*) > 0 FROM station_usual)",
                )
                told += [reader.execute(sql).fetchall() for sql in queries]
    april_6 = dt.date(2024, 4, 6)
    assert told == [
        [(lake.id, "not learnt yet", 0, None, 18)], [(0, False)],
        [(lake.id, "ready", 17, april_6, 0)], [(8, True)],
    ]  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty one."""
    return Lake(tmp_path / "lake")


def test_with_less_than_two_weeks_there_is_none_and_all_say_so(lake: Lake, tmp_path: Path) -> None:
    days(lake, tmp_path, 13)
    lake.publish()
    assert_forecast(lake)
    assert counts(lake) == [0, 0, 0, 1]
    assert "not enough history: 13 of 14 days" in told(lake)
    assert json.loads(told(lake, "--json"))["stations"] == []


def test_it_is_that_of_the_model_also_after_gaps_and_late_files(lake: Lake, tmp_path: Path) -> None:
    days(lake, tmp_path, 17)
    late = [key for key in lake.raw_files if "dt=2024-03-22" in key or "2024-04-03_1" in key]
    held_back = {key: lake.raw_files[key] for key in late}
    for key in late:
        lake.remove(key)
    gap = dt.datetime(2024, 4, 4, 7, tzinfo=dt.UTC)
    for at in (poll.due_at for poll in lake.polls):
        if gap <= at < gap + dt.timedelta(hours=5):
            lake.remove(lake.key(at))
    polls = lake.polls
    lake.polls = [poll for poll in polls if poll.s3_source_key in lake.raw_files]
    lake.publish()
    assert_forecast(lake)
    for key, data in held_back.items():
        lake.put(key, data)
    lake.polls = [poll for poll in polls if poll.s3_source_key in lake.raw_files]
    lake.publish()
    assert_forecast(lake)
    assert {date for (date,) in lake.query("SELECT DISTINCT date FROM forecast_scores WHERE date NOT NULL")} == {
        dt.date(2024, 4, day) for day in (3, 4, 5)
    }
    lake.rebuild()
    assert_forecast(lake)
    assert_made_in_time(lake, tmp_path / "service")
    text = told(lake, "--top", "3")
    assert "as of 2024-04-05 23:00:00 UTC" in text
    assert "a bike in 30 minutes" in text and "of 3 days" in text and "a dock in 30 minutes" in text
    with contextlib.closing(instance(lake.database, lake.folder / "data")) as connection:
        answer = json.loads(PublishedDatabase(lake.database, connection, lambda _: {}).forecast())
    document = json.loads(told(lake, "--json"))
    assert (answer["status"], answer["scores"][0]["days"]) == ("ready", 3)
    assert [row["brier"] for row in answer["scores"]] == [row["brier"] for row in document["scores"]]
    assert [row["bike_30"] for row in answer["stations"]] == [row["bike_30"] for row in document["stations"]]
    (only,) = json.loads(told(lake, "--json", "--station", "19001"))["stations"]
    assert (only["station_id"], only["made_at"]) == ("19001", "2024-04-05T23:00:00")
    config = lake.folder / "config.toml"
    config.write_text(config.read_text(encoding="utf-8") + "\n[warehouse]\nforecast = false\n", encoding="utf-8")
    lake.publish()
    assert counts(lake) == [0, 0, 0, 0]
