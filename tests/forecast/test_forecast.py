"""All of it on a made-up city: two weeks to learn from, one to be judged by."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

import numpy as np

from bikeflow.forecast import HORIZONS, PLENTY, SUMS, Moment, climatology, forecast, learn, score, verdicts
from tests.forecast.simulation import bikes_at, changes
from tests.forecast.test_rates import flows

DOCKS = 6
STATIONS = tuple("abcdefgh")
WEEK = 7 * 24
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
    bike, dock = np.zeros((2, len(SUMS), len(HORIZONS), 10), dtype=np.int64)
    for quarter in range(4 * 2 * WEEK, 4 * 3 * WEEK - 4):
        time, hour = quarter / 4, quarter // 4
        moment = Moment(
            hour // 24 % 7 + 1, hour % 24, 60 * (hour + 1 - time), (hour + 1) // 24 % 7 + 1, (hour + 1) % 24
        )
        now = np.array([bikes_at(steps, time, 3) for steps in stations.values()])
        later = np.array([[bikes_at(steps, time + m / 60, 3) for m in HORIZONS] for steps in stations.values()])
        made = forecast(rates, names, now.astype(np.float64), np.full(len(names), float(DOCKS)), moment)
        usual_bike, usual_dock = usual.at(names, moment)
        bike += score(made.bike, now > 0, (later > 0).astype(np.float64), usual_bike)
        dock += score(made.dock, now < DOCKS, (later < DOCKS).astype(np.float64), usual_dock)
    for verdict in (*verdicts(bike), *verdicts(dock)):
        assert verdict.forecasts == len(names) * (4 * WEEK - 4)
        assert min(verdict.skill_persistence or 0, verdict.skill_calibrated_persistence or 0) > 0.03
        assert (verdict.skill_climatology or 0) > 0.1
        assert (verdict.calibration_error or 1) < 0.04
