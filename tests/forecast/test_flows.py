"""Local hours of a forecast, and with how many bikes a station is full."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from bikeflow.forecast import Moment, docks_of

UNKNOWN = float("nan")


@pytest.mark.parametrize(
    ("at", "zone", "moment"),
    [
        ("2024-03-04T07:45:00+01:00", "Europe/Warsaw", Moment(1, 7, 15, 1, 8)),
        ("2024-03-10T22:00:00+00:00", "Europe/Warsaw", Moment(7, 23, 60, 1, 0)),
        # The clock goes from 2 to 3, and on another day from 3 back to 2.
        ("2024-03-31T00:50:00+00:00", "Europe/Warsaw", Moment(7, 1, 10, 7, 3)),
        ("2024-10-27T00:30:00+00:00", "Europe/Warsaw", Moment(7, 2, 30, 7, 2)),
        # Hours are those of UTC, which begin at half past here.
        ("2024-03-04T08:15:30+05:30", "Asia/Kolkata", Moment(1, 7, 14.5, 1, 8)),
    ],
)
def test_a_forecast_uses_the_local_hours_that_it_reaches(at: str, zone: str, moment: Moment) -> None:
    assert Moment.of(dt.datetime.fromisoformat(at), ZoneInfo(zone)) == moment


@pytest.mark.parametrize(
    ("bikes", "spaces", "total_docks", "usual_docks", "docks"),
    [
        (4, 11, 15, UNKNOWN, 15),
        (4, 9, 15, 15, 13),  # two docks are out of order
        (20, 1, 15, 15, 15),  # the WRM: bikes beside the docks, and never less than one space
        (4, UNKNOWN, 15, UNKNOWN, 15),
        (4, 9, UNKNOWN, 10, 13),
        (4, 9, 0, UNKNOWN, 13),
        (20, 0, UNKNOWN, 15, 15),  # five bikes too many
        (20, 0, UNKNOWN, 25, 20),
        (20, 0, UNKNOWN, UNKNOWN, UNKNOWN),
        (4, UNKNOWN, UNKNOWN, 15, UNKNOWN),
        (0, 0, 15, 15, UNKNOWN),  # out of service
    ],
)
def test_a_station_is_full_with_as_many_bikes_as_the_feed_tells(
    bikes: float, spaces: float, total_docks: float, usual_docks: float, docks: float
) -> None:
    found = docks_of(*(np.array([float(value), 2]) for value in (bikes, spaces, total_docks, usual_docks)))
    assert found == pytest.approx(np.array([docks, 2]), nan_ok=True)
