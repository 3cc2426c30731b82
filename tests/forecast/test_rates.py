"""Rates are found again in what they made, and few data are not believed too much."""

from __future__ import annotations

from dataclasses import fields, replace

import duckdb
import numpy as np
import pytest

from bikeflow.forecast import PLENTY, Flows, Moment, Rates, forecast, learn

HOUR = 3600.0
PROFILE = np.where((np.arange(24) > 6) & (np.arange(24) < 20), 1.5, 0.2)


def flows(rows: list[tuple[str, int, int, int, int, float, float, float]]) -> Flows:
    """Rows of station, weekday, hour, bikes, spaces, departures, arrivals, seconds."""
    station, *others = zip(*rows, strict=True) if rows else [()] * 8
    weekday, hour, bikes, spaces = (np.array(column, dtype=np.int64) for column in others[:4])
    departures, arrivals, seconds = (np.array(column, dtype=np.float64) for column in others[4:])
    return Flows(np.array(station, dtype=object), weekday, hour, bikes, spaces, departures, arrivals, seconds)


def city(weeks: int, seed: int = 16) -> Flows:
    """Three stations: a quiet one, a middling one, a busy one. The last bike stays; a full station takes half."""
    random = np.random.default_rng(seed)
    of_bikes, of_spaces = (0, 0.2, 1, 1, 1, 1), (0.5, 1, 1, 1, 1, 1)
    rows = []
    for station, pace in (("a", 0.5), ("b", 1.0), ("c", 4.0)):
        for weekday in range(1, 8):
            for hour in range(24):
                for bikes, spaces in ((0, 5), (1, 5), (5, 5), (5, 0)):
                    expected = pace * PROFILE[hour] * weeks / 4
                    departures = random.poisson(expected * of_bikes[bikes])
                    arrivals = random.poisson(2 * expected * of_spaces[spaces])
                    rows.append((station, weekday, hour, bikes, spaces, departures, arrivals, weeks * HOUR / 4))
    return flows(rows)


def reordered(given: Flows, order: np.ndarray) -> Flows:
    return Flows(**{field.name: getattr(given, field.name)[order] for field in fields(Flows)})


def same(one: Rates, other: Rates) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Rates))


def test_rates_and_what_the_state_does_to_them_are_found_again() -> None:
    found = learn(city(weeks=400))
    assert found.stations.tolist() == ["a", "b", "c"]
    for i, pace in enumerate((0.5, 1.0, 4.0)):
        assert found.departures[i] == pytest.approx(np.tile(pace * PROFILE, (2, 1)), rel=0.2)
        assert found.arrivals[i] == pytest.approx(np.tile(2 * pace * PROFILE, (2, 1)), rel=0.2)
    assert found.of_bikes[[0, 1, PLENTY]] == pytest.approx([0, 0.2, 1], abs=0.03)
    assert found.of_spaces[[0, PLENTY]] == pytest.approx([0.5, 1], abs=0.03)


def test_a_week_tells_more_with_the_city_than_alone() -> None:
    given = city(weeks=1)
    found = learn(given)
    errors, alone = [], []
    for i, pace in enumerate((0.5, 1.0, 4.0)):
        mine = (given.station == "abc"[i]) & (given.bikes == PLENTY) & (given.weekday < 6)
        hours = np.bincount(given.hour[mine], given.seconds[mine], 24) / HOUR
        alone.append(np.bincount(given.hour[mine], given.departures[mine], 24) / hours - pace * PROFILE)
        errors.append(found.departures[i, 0] - pace * PROFILE)
    assert np.square(errors).mean() < np.square(alone).mean() / 2


def test_the_city_stands_for_stations_that_were_not_seen() -> None:
    found = learn(city(weeks=100))
    mean = (0.5 + 1 + 4) / 3
    assert found.departures[-1] == pytest.approx(np.tile(mean * PROFILE, (2, 1)), rel=0.3)


def test_the_order_of_rows_and_their_splitting_into_days_do_not_matter() -> None:
    random = np.random.default_rng(16)
    given = city(weeks=4)
    departures, arrivals, seconds = random.integers(1, 4000, (3, len(given.hour))).astype(np.float64)
    more = replace(given, departures=departures, arrivals=arrivals, seconds=seconds)
    both = Flows(*(np.concatenate([getattr(one, field.name) for one in (given, more)]) for field in fields(Flows)))
    added = replace(
        given,
        departures=given.departures + departures,
        arrivals=given.arrivals + arrivals,
        seconds=given.seconds + seconds,
    )
    whole = learn(added)
    for _ in range(5):
        assert same(whole, learn(reordered(both, random.permutation(len(both.hour)))))


def test_without_data_nothing_happens() -> None:
    found = learn(flows([]))
    assert found.departures.shape == found.arrivals.shape == (1, 2, 24)
    assert not found.departures.any()
    assert not found.arrivals.any()
    quiet = learn(flows([("a", 1, 7, 3, 3, 0, 0, HOUR)]))
    assert not quiet.departures.any()
    assert np.isfinite(quiet.of_bikes).all()


def test_one_busy_hour_of_a_station_is_believed_in_part_only() -> None:
    rows = [(name, 1, hour, 5, 5, 1.0, 1.0, HOUR) for name in "abcdefgh" for hour in range(24)]
    rows[7] = ("a", 1, 7, 5, 5, 12.0, 1.0, HOUR)
    found = learn(flows(rows))
    assert 1 < found.departures[0, 0, 7] < 12
    assert found.departures[1, 0, 8] == pytest.approx(1, abs=0.3)


def test_stations_that_differ_by_chance_only_are_taken_for_equal() -> None:
    random = np.random.default_rng(16)
    rows = [(f"{i:02}", 1, hour, 5, 5, float(random.poisson(0.5)), 0.0, HOUR) for i in range(60) for hour in range(24)]
    found = learn(flows(rows)).departures[:-1, 0]
    assert found.mean() == pytest.approx(0.5, rel=0.1)
    assert found.mean(axis=1).std() < 0.03  # by themselves they vary by the root of 0.5 / 24, which is 0.14


def test_a_query_of_duckdb_gives_the_columns() -> None:
    query = """
    SELECT
        's' || range % 3 AS station, range % 7 + 1 AS weekday, range % 24 AS hour,
        least(range % 9, 5)::TINYINT AS bikes, 5::UTINYINT AS spaces,
        sum(1) AS departures, count(*) AS arrivals, sum(1800) AS seconds,
    FROM range(2000)
    GROUP BY ALL
    """
    found = learn(Flows(**duckdb.sql(query).fetchnumpy()))
    assert found.stations.tolist() == ["s0", "s1", "s2"]
    assert found.arrivals.mean() == pytest.approx(2, rel=0.05)


def test_a_feed_that_makes_no_sense_is_followed_within_bounds() -> None:
    """Thousands of bikes that come and go each minute would take gigabytes and minutes for each forecast."""
    rows = [
        ("a", weekday, hour, bikes, 5 - bikes, 1e9 * (bikes == 5), 1e9 * (bikes == 0), 30 * HOUR)
        for weekday in range(1, 8)
        for hour in range(24)
        for bikes in (0, 5)
    ]
    rates = learn(flows(rows))
    assert max(rates.departures.max(), rates.arrivals.max()) <= 300
    assert max(rates.of_bikes.max(), rates.of_spaces.max()) <= 4
    moment = Moment(weekday=1, hour=7, minutes_left=20, next_weekday=1, next_hour=8)
    made = forecast(rates, np.array(["a"] * 64), np.full(64, 5.0), np.full(64, 9.0), moment)
    assert np.isfinite(made.bike).all() and np.isfinite(made.dock).all()
