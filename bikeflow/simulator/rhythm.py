"""The city's week: how many trips begin in each hour, and how full the docks of each kind of area are.

Everything moves at the pace of the trips: most at four in the afternoon, hardly at two in the night. Local time is
UTC + 2 h all year, as the feed's packed offsets say.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

LOCAL_OFFSET_SECONDS = 7_200
HOUR, DAY, WEEK = 3_600, 86_400, 7 * 86_400
# The epoch was a Thursday; weeks begin on Monday.
_EPOCH_WEEKDAY = 3

Knots = tuple[tuple[float, float], ...]


class Area(enum.StrEnum):
    """What people do around a station; it decides when the docks fill and when they empty."""

    HOME = "home"
    OFFICE = "office"
    LEISURE = "leisure"


# Trips of an average day by the local hour in which they begin: means of the city's open data, March 2023 and 2024.
_WORKDAY_TRIPS = (34, 17, 10, 13, 24, 37, 83, 168, 165, 132, 125, 143,
                  175, 209, 281, 338, 388, 334, 272, 197, 153, 118, 87, 54)  # fmt: skip
_DAY_OFF_TRIPS = (67, 42, 27, 28, 26, 24, 29, 44, 66, 92, 134, 184,
                  237, 261, 271, 274, 235, 227, 180, 147, 119, 96, 66, 58)  # fmt: skip
_TRIPS = 5 * _WORKDAY_TRIPS + 2 * _DAY_OFF_TRIPS
PACE = tuple(trips * len(_TRIPS) / sum(_TRIPS) for trips in _TRIPS)
"""How fast the city moves in each hour of the week; 1 is its mean."""
_BUSY = tuple(accumulate((HOUR * pace for pace in PACE), initial=0.0))


def busy(world_seconds: float) -> float:
    """A world time as busy time: seconds in each of which as many trips begin; a week has as many of either."""
    weeks, now = divmod(world_seconds + LOCAL_OFFSET_SECONDS + _EPOCH_WEEKDAY * DAY, WEEK)
    hour = int(now // HOUR)
    return weeks * WEEK + _BUSY[hour] + (now - hour * HOUR) * PACE[hour]


def world(busy_seconds: float) -> float:
    """The world time of a busy time: the inverse of `busy`."""
    weeks, now = divmod(busy_seconds, WEEK)
    hour = min(bisect_right(_BUSY, now), len(PACE)) - 1
    local = weeks * WEEK + hour * HOUR + (now - _BUSY[hour]) / PACE[hour]
    return local - LOCAL_OFFSET_SECONDS - _EPOCH_WEEKDAY * DAY


# (local hour, share of the docks that are taken): between the knots it moves with the trips.
_WORKDAY: Mapping[Area, Knots] = {
    Area.HOME: ((0, 0.68), (5.5, 0.72), (9.5, 0.27), (14.5, 0.30), (18.5, 0.62)),
    Area.OFFICE: ((0, 0.24), (5.5, 0.20), (9.5, 0.84), (14.5, 0.80), (18.5, 0.32)),
    Area.LEISURE: ((0, 0.30), (6, 0.28), (15, 0.32), (19, 0.48), (22, 0.34)),
}
_DAY_OFF: Mapping[Area, Knots] = {
    Area.HOME: ((0, 0.66), (9, 0.68), (14, 0.46), (18, 0.48), (22, 0.62)),
    Area.OFFICE: ((0, 0.32), (9, 0.27), (14, 0.36), (19, 0.38)),
    Area.LEISURE: ((0, 0.32), (9, 0.34), (13, 0.82), (17, 0.86), (21, 0.40)),
}


def _week(area: Area) -> tuple[list[float], list[float]]:
    """The knots of a week as (busy seconds since Monday 00:00, share), with a day more at both ends to join on to."""
    monday = -LOCAL_OFFSET_SECONDS - _EPOCH_WEEKDAY * DAY
    points = [
        (busy(monday + day * DAY + hour * HOUR), share)
        for day in range(-1, 8)
        for hour, share in (_DAY_OFF if day % 7 in (5, 6) else _WORKDAY)[area]
    ]
    return [moment for moment, _ in points], [share for _, share in points]


_WEEKS = {area: _week(area) for area in Area}


def tide(area: Area, world_seconds: float) -> float:
    """The share of docks taken around `area` at a world time (seconds since the epoch, UTC), in 0–1."""
    moments, shares = _WEEKS[area]
    now = busy(world_seconds) % WEEK
    after = bisect_right(moments, now)
    start, end = moments[after - 1], moments[after]
    return shares[after - 1] + (shares[after] - shares[after - 1]) * (now - start) / (end - start)
