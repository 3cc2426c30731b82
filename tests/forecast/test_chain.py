"""The forecast against arithmetic, against a simulation that shares no code with it, and its bounds."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikeflow.forecast import HORIZONS, PLENTY, Forecast, Moment, Rates, forecast
from tests.forecast.simulation import bikes_at, changes

MONDAY_AT_SEVEN = Moment(weekday=1, hour=7, minutes_left=60, next_weekday=1, next_hour=8)
UNKNOWN = float("nan")


def rates(come: float = 0, leave: float = 0, later: tuple[float, float] | None = None) -> Rates:
    """One station, `a`, with the same rates in all hours; or other ones (arrivals, departures) from eight on."""
    arrivals, departures = np.full((2, 2, 24), come), np.full((2, 2, 24), leave)
    if later:
        arrivals[..., 8:], departures[..., 8:] = later
    plain = np.ones(PLENTY + 1)
    return Rates(np.array(["a"]), departures, arrivals, np.where(np.arange(PLENTY + 1) > 0, plain, 0), plain)


def chances(given_rates: Rates, bikes: float, docks: float = UNKNOWN, moment: Moment = MONDAY_AT_SEVEN) -> Forecast:
    return forecast(given_rates, np.array(["a"]), np.array([bikes]), np.array([docks]), moment)


def test_the_last_bike_is_there_as_long_as_nobody_has_come() -> None:
    bike = chances(rates(leave=1.2), bikes=1).bike[0]
    assert bike == pytest.approx([math.exp(-1.2 * minutes / 60) for minutes in HORIZONS], abs=1e-4)


def test_a_dock_is_free_until_more_bikes_have_come_than_there_were_docks() -> None:
    dock = chances(rates(come=3), bikes=4, docks=7).dock[0]
    expected = [sum(math.exp(-m / 20) * (m / 20) ** k / math.factorial(k) for k in range(3)) for m in HORIZONS]
    assert dock == pytest.approx(expected, abs=1e-4)


def test_the_last_bikes_leave_more_slowly_where_they_always_did() -> None:
    slow = replace(rates(leave=2), of_bikes=np.array([0, 0.25, 0.5, 1, 1, 1]))
    bike = chances(slow, bikes=1).bike[0]
    assert bike == pytest.approx([math.exp(-0.5 * minutes / 60) for minutes in HORIZONS], abs=1e-4)


def test_a_full_station_takes_no_more_bikes_where_it_never_did() -> None:
    docked = replace(rates(come=50, leave=2), of_spaces=np.array([0, 1, 1, 1, 1, 1]))
    dock = chances(docked, bikes=10, docks=10, moment=replace(MONDAY_AT_SEVEN, minutes_left=10)).dock[0]
    # It has a dock for about 1/50 h after each departure: a share of 2 / (50 + 2) of the time.
    assert dock == pytest.approx([2 / 52] * 3, abs=2e-3)


def test_without_departures_and_arrivals_everything_stays() -> None:
    found = forecast(
        rates(), np.array(["a"] * 4), np.array([0.0, 1, 9, 12]), np.array([9.0, 9, 9, UNKNOWN]), MONDAY_AT_SEVEN
    )
    assert found.bike.tolist() == [[0] * 3, [1] * 3, [1] * 3, [1] * 3]
    assert found.dock[:3].tolist() == [[1] * 3, [1] * 3, [0] * 3]
    assert np.isnan(found.dock[3]).all()


def test_a_station_never_seen_is_an_average_one() -> None:
    known = rates(come=1)
    known.arrivals[1] = 3
    found = forecast(known, np.array(["a", "b"]), np.zeros(2), np.full(2, UNKNOWN), MONDAY_AT_SEVEN)
    assert found.bike[:, 2] == pytest.approx([1 - math.exp(-1), 1 - math.exp(-3)], abs=1e-4)


@pytest.mark.parametrize(
    ("weekday", "next_weekday", "expected"), [(1, 1, 1), (5, 6, 2), (6, 6, 3), (7, 7, 3), (7, 1, 2)]
)
def test_weekends_have_rates_of_their_own(weekday: int, next_weekday: int, expected: float) -> None:
    known = rates(come=1)
    known.arrivals[:, 1] = 3
    bike = chances(known, 0, moment=Moment(weekday, 23, 30, next_weekday, 0)).bike[0, 2]
    assert bike == pytest.approx(1 - math.exp(-expected), abs=1e-4)


def test_no_stations_are_no_forecast() -> None:
    found = forecast(rates(1, 1), np.array([], dtype=object), np.array([]), np.array([]), MONDAY_AT_SEVEN)
    assert found.bike.shape == found.dock.shape == (0, 3)


def test_thousands_of_events_an_hour_are_as_exact() -> None:
    busy = chances(rates(come=4000, leave=4000), bikes=1000, docks=1001)
    assert busy.bike[0].tolist() == [1, 1, 1]
    # As many may come as leave: half, and half of the chance (of a normal law) that both are equally many.
    same = [1 / math.sqrt(2 * math.pi * 8000 * minutes / 60) for minutes in HORIZONS]
    assert busy.dock[0] == pytest.approx([0.5 + chance / 2 for chance in same], abs=1e-4)


@pytest.mark.parametrize(
    ("bikes", "docks", "minutes_left"), [(0, 6, 60), (1, 6, 25), (2, 3, 40), (6, 6, 60), (8, 6, 10), (5, 6, 0.5)]
)
def test_the_forecast_is_what_a_simulation_gives(bikes: int, docks: int, minutes_left: float) -> None:
    known = replace(
        rates(come=2.5, leave=3.5, later=(5, 1)),
        of_bikes=np.array([0, 0.4, 0.6, 0.8, 0.9, 1]),
        of_spaces=np.array([0.3, 0.7, 1, 1, 1, 1]),
    )

    def come(time: float, now: int) -> float:
        return (2.5 if time < 8 else 5) * {0: 0.3, 1: 0.7}.get(max(docks - now, 0), 1)

    def leave(time: float, now: int) -> float:
        return (3.5 if time < 8 else 1) * {1: 0.4, 2: 0.6, 3: 0.8, 4: 0.9}.get(now, 1)

    begin, runs, chance = 8 - minutes_left / 60, 8000, random.Random(16)
    bike, dock = np.zeros(3), np.zeros(3)
    for _ in range(runs):
        steps = list(changes(chance, bikes, begin, begin + 1, come, leave))
        later = np.array([bikes_at(steps, begin + minutes / 60, bikes) for minutes in HORIZONS])
        bike, dock = bike + (later > 0), dock + (later < docks)
    found = chances(known, bikes, docks, replace(MONDAY_AT_SEVEN, minutes_left=minutes_left))
    # Five standard errors of a share of 8,000 runs.
    assert found.bike[0] == pytest.approx(bike / runs, abs=5 * 0.5 / math.sqrt(runs))
    assert found.dock[0] == pytest.approx(dock / runs, abs=5 * 0.5 / math.sqrt(runs))


per_hour = st.floats(0, 60)
factors = st.lists(st.floats(0, 3), min_size=PLENTY + 1, max_size=PLENTY + 1).map(np.array)


@given(per_hour, per_hour, factors, factors, st.integers(1, 30), st.floats(0, 60, exclude_min=True))
def test_more_bikes_make_a_bike_likelier_and_a_dock_less_likely(
    come: float, leave: float, of_bikes: np.ndarray, of_spaces: np.ndarray, docks: int, minutes_left: float
) -> None:
    of_bikes[0] = 0
    known = replace(rates(come, leave, (leave, come)), of_bikes=of_bikes, of_spaces=of_spaces)
    bikes = np.arange(35.0)
    moment = replace(MONDAY_AT_SEVEN, minutes_left=minutes_left)
    found = forecast(known, np.array(["a"] * 35), bikes, np.full(35, float(docks)), moment)
    for chance in (found.bike, found.dock):
        assert ((chance >= 0) & (chance <= 1)).all()
    assert (np.diff(found.bike, axis=0) >= -1e-4).all()
    assert (np.diff(found.dock, axis=0) <= 1e-4).all()


def test_each_station_is_forecast_as_if_it_were_alone() -> None:
    known = Rates(
        np.array(["a", "b"]),
        np.stack([np.full((2, 24), leave) for leave in (0.3, 9, 1)]),
        np.stack([np.full((2, 24), come) for come in (0.2, 4, 1)]),
        np.array([0, 0.5, 1, 1, 1, 1]),
        np.ones(PLENTY + 1),
    )
    stations, bikes, docks = np.array(["b", "new", "a"]), np.array([40.0, 2, 1]), np.array([41.0, 3, 2])
    together = forecast(known, stations, bikes, docks, MONDAY_AT_SEVEN)
    for i in range(3):
        alone = forecast(known, stations[[i]], bikes[[i]], docks[[i]], MONDAY_AT_SEVEN)
        assert alone.bike[0] == pytest.approx(together.bike[i], abs=1e-4)
        assert alone.dock[0] == pytest.approx(together.dock[i], abs=1e-4)
