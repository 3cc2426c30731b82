"""All of it on a made-up city: two weeks to learn from, one to be judged by."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from bikeflow.forecast import (
    BINS,
    HORIZONS,
    PLENTY,
    QUARTERS,
    SUMS,
    Moment,
    climatology,
    forecast,
    learn,
    score,
    score_day,
    verdicts,
)
from tests.forecast.simulation import bikes_at, changes
from tests.forecast.test_rates import flows

DOCKS = 6
STATIONS = tuple("abcdefgh")
WEEK = 7 * 24
MONDAY = dt.date(2024, 3, 4)
Steps = list[tuple[float, int]]


def city(weeks: int) -> dict[str, Steps]:
    """The changes of each station, where bikes leave in the mornings of working days and come back in the evenings."""
    chance = random.Random(16)

    def station(pace: float) -> Steps:
        def rush(time: float, begin: int) -> float:
            return pace * (3 if time % WEEK < 5 * 24 and begin <= int(time % 24) < begin + 3 else 0.4)

        def come(time: float, bikes: int) -> float:
            return rush(time, 16) if bikes < DOCKS else 0

        def leave(time: float, bikes: int) -> float:
            return rush(time, 7) * (0.3 if bikes == 1 else 1)

        return [(0.0, 3), *changes(chance, 3, 0, weeks * WEEK, come, leave)]

    return {name: station(1 + i / 4) for i, name in enumerate(STATIONS)}


def seen(stations: dict[str, Steps], hours: int) -> list[tuple[str, int, int, int, int, float, float, float]]:
    """Departures, arrivals and seconds by station, weekday, hour, bikes and spaces, in the first hours."""
    found: dict[tuple[str, int, int, int, int], list[float]] = defaultdict(lambda: [0, 0, 0])
    for station, steps in stations.items():
        for (begin, bikes), (end, after) in pairwise(steps):
            for hour in range(int(begin), min(int(end) + 1, hours)):
                state = (min(bikes, PLENTY), min(DOCKS - bikes, PLENTY))
                values = found[station, hour // 24 % 7 + 1, hour % 24, *state]
                values[2] += round(3600 * (min(end, hour + 1) - max(begin, hour)))
                if int(end) == hour:
                    values[0] += max(bikes - after, 0)
                    values[1] += max(after - bikes, 0)
    return [(*key, values[0], values[1], values[2]) for key, values in found.items()]


def test_a_city_that_is_as_the_model_thinks_is_forecast_well() -> None:
    stations = city(weeks=3)
    known = flows(seen(stations, 2 * WEEK))
    rates, usual, names = learn(known), climatology(known), np.array(STATIONS)
    bike, dock = np.zeros((2, len(SUMS), len(HORIZONS), BINS), dtype=np.int64)
    for day in range(2 * 7, 3 * 7):
        times = [24 * day + quarter / 4 for quarter in range(QUARTERS)]
        bikes = np.array([[float(bikes_at(steps, time, 3)) for steps in stations.values()] for time in times])
        docks = np.full(bikes.shape, float(DOCKS))
        found = score_day(rates, usual, MONDAY + dt.timedelta(days=day), ZoneInfo("UTC"), names, bikes, docks)
        bike, dock = bike + found[0], dock + found[1]
    for verdict in (*verdicts(bike), *verdicts(dock)):
        assert verdict.forecasts == len(names) * 7 * (QUARTERS - verdict.horizon_minutes // 15)
        assert min(verdict.skill_persistence or 0, verdict.skill_calibrated_persistence or 0) > 0.03
        assert (verdict.skill_climatology or 0) > 0.1
        assert (verdict.calibration_error or 1) < 0.04


def test_a_day_is_scored_by_its_own_known_states_in_local_hours() -> None:
    zone, saturday = ZoneInfo("Europe/Warsaw"), dt.date(2024, 3, 30)  # from 23:00 on it is Sunday there
    random = np.random.default_rng(16)
    known = flows(
        [
            (name, weekday, hour, 3, 3, float(random.poisson(2)), float(random.poisson(1)), 3600.0)
            for name in "ab"
            for weekday in range(1, 8)
            for hour in range(24)
        ]
    )
    rates, usual, names = learn(known), climatology(known), np.array(["a", "b", "c"])
    bikes = random.integers(0, 5, (QUARTERS, 3)).astype(np.float64)
    bikes[40:50, 1] = np.nan
    bikes[70] = np.nan
    docks = np.tile([4.0, np.nan, 3.0], (QUARTERS, 1))
    bike, dock = np.zeros((2, len(SUMS), len(HORIZONS), BINS), dtype=np.int64)
    for quarter, station in np.ndindex(QUARTERS, 3):
        at = dt.datetime.combine(saturday, dt.time(), dt.UTC) + dt.timedelta(minutes=15 * quarter)
        now, full = bikes[[quarter], station], docks[[quarter], station]
        if np.isnan(now).any():
            continue
        moment, one = Moment.of(at, zone), names[[station]]
        later = np.array(
            [[bikes[q, station] if q < QUARTERS else np.nan for q in (quarter + 1, quarter + 2, quarter + 4)]]
        )
        made, (usual_bike, usual_dock) = forecast(rates, one, now, full, moment), usual.at(one, moment)
        unknown = np.isnan(later)
        bike += score(made.bike, now > 0, np.where(unknown, np.nan, later > 0), usual_bike)
        dock += score(made.dock, now < full, np.where(unknown | np.isnan(full), np.nan, later < full), usual_dock)
    found = score_day(rates, usual, saturday, zone, names, bikes, docks)
    assert np.array_equal(found[0], bike)
    assert np.array_equal(found[1], dock)
    assert 0 < dock[0].sum() < bike[0].sum()
