"""Whole histories of other cities, through the lake to the tables: the same as plain Python over the same documents."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.answers.histories import History, histories
from tests.answers.lake import Lake
from tests.answers.reference import joined, microseconds
from tests.answers.tables import assert_answers, assert_density
from tests.support.rounds import rounds

HISTORIES = list(histories(rounds(100, 1_000_000)))


@pytest.fixture(scope="module", params=HISTORIES, ids=lambda history: history.name)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[History, Lake]:
    """A history and the lake that it became, published."""
    history: History = request.param
    lake = history.lake(tmp_path_factory.mktemp(history.name))
    lake.publish()
    return history, lake


def test_history_holds_each_record_of_each_poll(published: tuple[History, Lake]) -> None:
    _, lake = published
    counted = {file.key: (file.count, len(file.records), file.count - len(file.records)) for file in lake.read}
    assert lake.keyed("SELECT s3_source_key, lines, rows, rejected FROM pipeline_files") == counted
    wanted = {
        (file.key, one.kind, one.id): (file.time, one.name, one.lat, one.lon, one.state.bikes, one.state.spaces,
                                       one.state.docks)
        for file in lake.read
        for one in file.records
    }  # fmt: skip
    columns = "s3_source_key, record_type, station_id, file_timestamp, name, lat, lon, bikes, spaces, total_docks"
    assert lake.keyed(f"SELECT {columns} FROM history", 3) == wanted


def test_a_poll_that_saw_nothing_new_left_no_raw_file(published: tuple[History, Lake]) -> None:
    history, lake = published
    stored, before = [], None
    for at, body in history.polls:
        content = json.loads(body)["data"]
        stored += [at.replace(tzinfo=None)] * (content != before)
        before = content
    assert [file.time for file in lake.read] == stored


def test_coverage_is_that_of_the_polls(published: tuple[History, Lake]) -> None:
    _, lake = published
    covered = lake.coverage()
    assert lake.query("SELECT began_at, ended_at, known, reason, source FROM coverage ORDER BY 1") == covered
    unknown = joined((microseconds(began), microseconds(ended)) for began, ended, known, *_ in covered if not known)
    assert lake.query("SELECT epoch_us(began_at), epoch_us(ended_at) FROM gaps ORDER BY 1") == unknown
    days: dict[dt.date, list[float]] = {}
    for began, ended, known, *_ in covered:
        day = began.date()
        while day <= (ended - dt.timedelta(microseconds=1)).date():
            midnight = dt.datetime.combine(day, dt.time())
            here = min(ended, midnight + dt.timedelta(days=1)) - max(began, midnight)
            days.setdefault(day, [0.0, 0.0])[not known] += here.total_seconds()
            day += dt.timedelta(days=1)
    assert lake.keyed("SELECT date, known_seconds, unknown_seconds FROM coverage_days") == {
        day: tuple(seconds) for day, seconds in days.items()
    }


def test_answers_are_those_of_plain_python(published: tuple[History, Lake]) -> None:
    _, lake = published
    assert_answers(lake.keyed, lake.life())
    assert_density(lake.keyed, lake.density())


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
def test_answers_about_an_archive_whose_record_of_polls_comes_later(history: History, tmp_path: Path) -> None:
    lake = history.lake(tmp_path)
    polls, lake.polls = lake.polls, []
    lake.publish()
    assert {row[4] for row in lake.coverage()} == {"raw files"}
    assert lake.findings() == []
    assert_answers(lake.keyed, lake.life())
    assert_density(lake.keyed, lake.density())
    lake.polls = polls
    lake.publish()
    assert "polls" in {row[4] for row in lake.coverage()}
    assert_answers(lake.keyed, lake.life())
    assert_density(lake.keyed, lake.density())


def test_documents_without_stations_are_counted(published: tuple[History, Lake]) -> None:
    _, lake = published
    empty = Counter(file.folder for file in lake.read if not file.snapshot.stations)
    found = lake.keyed("SELECT date, files_without_stations FROM data_quality WHERE files_without_stations > 0")
    assert found == {day: (count,) for day, count in empty.items()}
