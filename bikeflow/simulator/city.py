"""The simulated city as the feed shows it: one document for any moment, with no step through the moments before."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, cycle

from bikeflow.simulator.chance import dice, draws
from bikeflow.simulator.fleet import MEAN_SHOWN, STAY_SECONDS, FreeBike, Habit, Station
from bikeflow.simulator.gazetteer import DISTRICTS, WARSAW, Place
from bikeflow.simulator.oddities import Oddities, malform
from bikeflow.simulator.rhythm import DAY

HEADER = (
    "#id,timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec,name,lat,lon,bikes,spaces,installed,locked,temporary,"
    "total_docks,givesbonus_acceptspedelecs_fbbattlevel,pedelecs"
)
_FIRST_STATION = 15_001
_BIKE_NUMBERS = range(610_000, 700_000)
# The share of the free bikes that have a battery to tell of.
_PEDELECS = 0.25
_DAY_US = DAY * 1_000_000
_DOCKS, _DOCKS_WEIGHTS = (6, 8, 10, 12, 14, 16, 20, 30), (18, 5, 45, 6, 5, 16, 3, 2)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class City:
    """Stations and free bikes whose every state is a pure function of the seed and the time.

    `free_bikes` is how many the feed shows on average; the fleet is larger. Raises ValueError for a city that the
    feed's ids have no room for.
    """

    def __init__(
        self, seed: int, stations: int = 250, free_bikes: int = 120, *, oddities: Oddities | None = None
    ) -> None:
        if not (1 <= stations <= 10_000 and 0 <= free_bikes <= 10_000):
            raise ValueError("a city has 1 to 10,000 stations and 0 to 10,000 free bikes")
        self._seed = seed
        self._oddities = Oddities() if oddities is None else oddities
        self.stations = _stations(seed, stations, self._oddities)
        self.bikes = _bikes(seed, round(free_bikes / MEAN_SHOWN), self._oddities, [s.place for s in self.stations])
        self._stale = {self.stations[index].id for index in _some(seed, "stale", stations, self._oddities.stale)}
        rng = dice(seed, "stamps")
        gaps = [rng.randrange(100, 220) for _ in range(len(self.stations) + len(self.bikes))]
        self._offsets = list(accumulate(gaps))

    def snapshot(self, at: dt.datetime, *, world_time: dt.datetime | None = None) -> str:
        """The feed's document at a UTC time: the same arguments give the same text.

        `at` is what the lines are stamped with, `world_time` (`at` where not given) is when in the city's life it is.
        Raises TypeError where a time has no zone.
        """
        stamp = (at - _EPOCH) // _MICROSECOND
        world = ((world_time or at) - _EPOCH).total_seconds()
        lines = [f"{line}\n" for line in self._lines(stamp, world)]
        chance, kind, where, *_ = draws(self._seed, "malformed", stamp)
        if chance < self._oddities.malformed:
            malform(lines, kind, where)
        return f"{HEADER}\n{''.join(lines)}"

    def accelerated(self, factor: float, since: dt.datetime) -> Callable[[dt.datetime], str]:
        """The documents of a world that runs `factor` times faster from `since` on, while its stamps stay real."""

        def document(at: dt.datetime) -> str:
            return self.snapshot(at, world_time=since + factor * (at - since))

        return document

    def _lines(self, stamp: int, world: float) -> Iterator[str]:
        """The lines of all stations and of the bikes that are to be seen, each a little later than the one before."""
        long_ago = stamp - stamp % _DAY_US - 2 * _DAY_US, world - world % DAY - 2 * DAY
        offsets = iter(self._offsets)
        for station, offset in zip(self.stations, offsets, strict=False):
            said, seen = long_ago if station.id in self._stale else (stamp, world)
            yield station.line(said + offset, seen)
        for bike, offset in zip(self.bikes, offsets, strict=True):
            line = bike.line(stamp + offset, world)
            if line is not None:
                yield line


def _some(seed: int, what: str, count: int, share: float) -> frozenset[int]:
    """A random choice of `share` of the numbers below `count`."""
    return frozenset(dice(seed, what).sample(range(count), round(share * count)))


def _stations(seed: int, count: int, oddities: Oddities) -> tuple[Station, ...]:
    """The docking stations: most of them where most people are."""
    rng = dice(seed, "stations")
    # A very large city begins to repeat its names, as real ones do; the id tells stations apart.
    names = {district: cycle(district.names(rng)) for district in DISTRICTS}
    crowded = _some(seed, "over capacity", count, oddities.over_capacity)
    stations = []
    for index, district in enumerate(rng.choices(DISTRICTS, [d.weight for d in DISTRICTS], k=count)):
        station = Station(
            id=str(_FIRST_STATION + index),
            name=next(names[district]),
            place=district.place(rng),
            area=district.area,
            docks=rng.choices(_DOCKS, _DOCKS_WEIGHTS)[0],
            pedelecs=rng.choices((0, 1, 2), (85, 12, 3))[0],
            habit=_habit(rng),
            swell=1.6 if index in crowded else 1.0,
        )
        stations.append(station)
    return tuple(stations)


def _habit(rng: random.Random) -> Habit:
    """What is peculiar to one station: fast small swings and slow large ones, all slower than a bike a minute."""
    minutes = ((0.05, 25, 45), (0.07, 80, 200), (0.08, 400, 700))
    swings = tuple((size, 60 * rng.uniform(low, high), rng.uniform(0, math.tau)) for size, low, high in minutes)
    return Habit(lean=rng.uniform(-0.25, 0.2), lag_seconds=rng.uniform(-2_400, 2_400), swings=swings)


def _bikes(seed: int, count: int, oddities: Oddities, places: Sequence[Place]) -> tuple[FreeBike, ...]:
    """The free bikes, which are left near stations."""
    rng = dice(seed, "bikes")
    abroad = _some(seed, "abroad", count, oddities.abroad)
    numbers = rng.sample(_BIKE_NUMBERS, count)
    return tuple(
        FreeBike(
            seed=seed,
            number=number,
            anchors=[WARSAW] if index in abroad else places,
            stay_seconds=rng.uniform(*STAY_SECONDS),
            charge_seconds=rng.uniform(2 * DAY, 5 * DAY) if rng.random() < _PEDELECS else 0,
        )
        for index, number in enumerate(numbers)
    )
