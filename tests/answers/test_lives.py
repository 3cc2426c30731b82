"""Whatever happens to a system, its tables are those that plain Python makes of its raw files and polls."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from random import Random

import pytest

from bikeflow.warehouse.moved import MOVED_ROWS
from tests.answers.forecasts import assert_forecast
from tests.answers.lake import Lake
from tests.answers.lives import RandomLife
from tests.answers.reference import Life
from tests.answers.tables import assert_answers, assert_density
from tests.support.rounds import rounds
from tests.warehouse.expected import Interval

BEGINNINGS = [
    ("Europe/Warsaw", dt.datetime(2024, 3, 29, 20, tzinfo=dt.UTC)),
    ("Europe/Warsaw", dt.datetime(2024, 10, 25, 20, tzinfo=dt.UTC)),
    ("America/Denver", dt.datetime(2022, 3, 12, 3, 0, 7, tzinfo=dt.UTC)),
    ("Asia/Kolkata", dt.datetime(2024, 12, 30, 12, tzinfo=dt.UTC)),
]


def assert_all(lake: Lake) -> None:
    """Rows, coverage and answers are those of plain Python."""
    with lake.reading():
        _assert_all(lake, lake.coverage(), lake.life())


def _assert_all(lake: Lake, covered: list[Interval], life: Life) -> None:
    assert lake.query("SELECT began_at, ended_at, known, reason, source FROM coverage ORDER BY 1") == covered
    wanted = {
        (file.key, one.kind, one.id): (file.time, one.state.bikes, one.state.spaces, one.state.docks)
        for file in lake.read
        for one in file.records
    }
    columns = "s3_source_key, record_type, station_id, file_timestamp, bikes, spaces, total_docks"
    assert lake.keyed(f"SELECT {columns} FROM history", 3) == wanted
    assert_answers(lake.keyed, life)
    assert_density(lake.keyed, lake.density())
    assert_forecast(lake, life)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(rounds(2, 12)))
@pytest.mark.parametrize("form", ["wrm", "gbfs"])
def test_at_every_moment_of_a_random_life(
    seed: int, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", (1, MOVED_ROWS, 50)[seed % 3])
    zone, since = BEGINNINGS[seed % len(BEGINNINGS)]
    lake = Lake(tmp_path, zone, form)
    life = RandomLife(lake, Random(seed), since)
    for _ in range(3):
        life.live(30)
        lake.publish()
        assert_all(lake)
    lake.rebuild()
    assert_all(lake)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(rounds(1, 8)))
def test_what_is_usual_over_months(seed: int, tmp_path: Path) -> None:
    """With a snapshot every few hours, weeks fall out of the eight that count, and late files come to some of them."""
    lake = Lake(tmp_path, "Europe/Warsaw", "gbfs")
    life = RandomLife(lake, Random(seed), dt.datetime(2024, 2, 1, tzinfo=dt.UTC), (7_200, 10_800))
    for _ in range(3):
        while life.now < dt.datetime(2024, 4, 1, tzinfo=dt.UTC) or not lake.polls:
            life.live(10)
        life.live(10)
        lake.publish()
        assert_all(lake)
    lake.rebuild()
    assert_all(lake)
