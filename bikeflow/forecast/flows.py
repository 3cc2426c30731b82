"""What a forecast is learnt from, and the local hours that it is made for."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[Any]
"""An array of texts: of objects, or of any numpy type of text."""

HORIZONS = (15, 30, 60)
"""Minutes ahead."""
PLENTY = 5
"""From so many bikes, or spaces, on it does not matter for departures, or arrivals, how many they are."""
DAYS_NEEDED = 14
"""A system with fewer days of known time before a day gets no forecast for that day."""


@dataclass(frozen=True, slots=True)
class Flows:
    """Columns of equal length: what was seen of a system's stations, by local hour of the week and by state.

    `station` is the id, `weekday` 1 (Monday) to 7, `hour` 0 to 23. `bikes` and `spaces` are the state: how many bikes
    can be taken and returned, where `PLENTY` stands for itself and more. `spaces` is 0 if the station counts as full,
    and only then, and `PLENTY` where it is unknown. `departures` and `arrivals` count bikes that left and came with a
    change of that state, `seconds` is known time in it. A station with neither bikes nor spaces is out of service: that
    is no state. The same key may come several times (as once for each day): the rows add up.
    """

    station: Names
    weekday: Ints
    hour: Ints
    bikes: Ints
    spaces: Ints
    departures: Floats
    arrivals: Floats
    seconds: Floats


@dataclass(frozen=True, slots=True)
class Moment:
    """When a forecast is made: the local weekday (1 to 7) and hour (0 to 23), and the next ones, `minutes_left` later.

    Hours are clock hours of UTC, named by the local time at which they begin, as in the hourly tables.
    """

    weekday: int
    hour: int
    minutes_left: float
    next_weekday: int
    next_hour: int

    @classmethod
    def of(cls, at: dt.datetime, zone: ZoneInfo) -> Moment:
        """The moment of an aware time in a time zone."""
        begun = at.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
        following = begun + dt.timedelta(hours=1)
        here, there = begun.astimezone(zone), following.astimezone(zone)
        left = (following - at).total_seconds() / 60
        return cls(here.isoweekday(), here.hour, left, there.isoweekday(), there.hour)


def docks_of(bikes: Floats, spaces: Floats, total_docks: Floats, usual_docks: Floats) -> Floats:
    """With how many bikes a station counts as full; of the arguments and of the result, NaN is unknown.

    It is the number of its docks, or less if there are fewer spaces than that leaves (docks out of order). Where the
    feed does not tell docks, it is bikes and spaces. If there are no spaces then, there may be bikes too many: it is
    `usual_docks`, what bikes and spaces usually came to while there were spaces.
    """
    told = np.fmin(total_docks, bikes + spaces)
    untold = np.where(spaces > 0, bikes + spaces, np.where(spaces <= 0, np.minimum(usual_docks, bikes), np.nan))
    docks = np.where(total_docks > 0, told, untold)
    return np.where(docks > 0, docks, np.nan)


def positions(ids: Names, wanted: Names) -> Ints:
    """Where each of the `wanted` stands in the sorted `ids`; `len(ids)` for those that are not there."""
    found = np.searchsorted(ids, wanted)
    missing = np.ones(len(found), dtype=np.bool_)
    inside = found < len(ids)
    missing[inside] = ids[found[inside]] != wanted[inside]
    return np.where(missing, len(ids), found).astype(np.int64)


def sums(places: Ints, values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """An array of a shape with, at each place (as one number), the sum of its values."""
    return np.bincount(places, values, math.prod(shape)).reshape(shape).astype(np.float64, copy=False)
