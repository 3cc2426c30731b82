"""Where the bikes are, hour by hour, by plain Python over raw snapshots and coverage.

It shares no code with bikeflow.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from tests.answers.reference import DAY, HOUR, SECOND, Coverage, as_time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A raw file: its key, the day of its folder, its time (microseconds), the stations and the free bikes in it."""

    key: str
    folder: dt.date
    at: int
    stations: Sequence[T]
    bikes: Sequence[T]


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What was there for so long (microseconds) of a clock hour's known time."""

    hour: int
    lasted: int
    stations: Sequence[T]
    bikes: Sequence[T]


@dataclass(frozen=True, slots=True)
class Standing:
    """A station or a free bike: where (None is unknown), how many bikes count there, whether in the service area."""

    lat: float | None
    lon: float | None
    bikes: int
    is_inside: bool


def lasting(listings: Iterable[Listing[T]], coverage: Coverage) -> Iterator[Part[T]]:
    """What was there when, as far as it is known.

    A snapshot holds until the next one that lists anything, or until the end of the next day (UTC). One without any
    station tells nothing of them: those of the newest one that has any are still there, if that is of the same day or
    the day before.
    """
    telling = [one for one in listings if (one.stations or one.bikes) and one.folder == as_time(one.at).date()]
    telling.sort(key=lambda one: (one.at, one.key))
    with_stations: Listing[T] | None = None
    for before, after in pairwise([*telling, None]):
        assert before is not None
        with_stations = before if before.stations else with_stations
        until = (before.at // DAY + 2) * DAY
        for since, end in coverage.within(before.at, until if after is None else min(until, after.at)):
            for hour in range(since // HOUR * HOUR, end, HOUR):
                is_recent = with_stations is not None and hour // DAY - with_stations.at // DAY <= 1
                stations = with_stations.stations if with_stations is not None and is_recent else ()
                yield Part(hour, min(end, hour + HOUR) - max(since, hour), stations, before.bikes)


def station_density_hourly(
    listings: Iterable[Listing[Standing]], coverage: Coverage, zone: str
) -> dict[tuple[str, int], dict[str, object]]:
    """By cell and hour: all bikes and free ones inside the service area, in the mean of the hour's known time."""
    known, bikes, free = Counter[int](), Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for part in lasting(listings, coverage):
        known[part.hour] += part.lasted
        for group, is_free in ((part.stations, False), (part.bikes, True)):
            for one in group:
                if one.lat is not None and one.lon is not None and one.is_inside:
                    place = cell_id(one.lat, one.lon), part.hour
                    bikes[place] += one.bikes * part.lasted
                    free[place] += is_free * part.lasted
    found: dict[tuple[str, int], dict[str, object]] = {}
    for (cell, hour), total in bikes.items():
        local = as_time(hour).replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone))
        found[cell, hour] = {
            "mean_bike_count": Fraction(total, known[hour]),
            "mean_mobile_bike_count": Fraction(free[cell, hour], known[hour]),
            "known_seconds": Fraction(known[hour], SECOND),
            "local_date": local.date(),
            "local_hour": local.hour,
        }
    return found


def cell_id(lat: float, lon: float) -> str:
    """The cell of a place: rows at the spacing of latitude 51.1, columns at that of the middle of their row."""
    height = math.sqrt(1000) / metres_per_degree(51.1)[0]
    row = math.floor(lat / height)
    width = math.sqrt(1000) / metres_per_degree((row + 0.5) * height)[1]
    return f"{row}:{math.floor(lon / width)}"


def metres_per_degree(lat: float) -> tuple[float, float]:
    """Of latitude and longitude, on the WGS 84 ellipsoid: the radii of the meridian's and the parallel's curvature."""
    eccentricity_squared = 2 / 298.257223563 - 1 / 298.257223563**2
    w = math.sqrt(1 - eccentricity_squared * math.sin(math.radians(lat)) ** 2)
    meridian, parallel = 6378137 * (1 - eccentricity_squared) / w**3, 6378137 * math.cos(math.radians(lat)) / w
    return math.radians(meridian), math.radians(parallel)
