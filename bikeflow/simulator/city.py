"""The simulated city as the feed shows it: one document for any moment, with no step through the moments before."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, cycle

from bikeflow.simulator.chance import dice, draws
from bikeflow.simulator.fleet import MEAN_SHOWN, STAY_SECONDS, FreeBike, Station
from bikeflow.simulator.gazetteer import DISTRICTS, WARSAW, Place
from bikeflow.simulator.oddities import CLOCK_ERRORS_US, Oddities, malform
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
# Docks of real stations, and how many of a hundred stations have so many.
_DOCKS, _DOCKS_WEIGHTS = (4, 6, 8, 10, 14, 16, 20, 28), (6, 24, 5, 51, 2, 10, 1, 1)
# The share of the real stations that come later than their id says.
_OUT_OF_ORDER = 0.02
# Bikes that stand in another city stand there for days.
_DEPOT_STAY_SECONDS = (4 * DAY, 9 * DAY)
_STROLL_KM, _DEPOT_KM = 0.35, 0.16
# Of a station's swings: the share of its docks, and the shortest and longest period in minutes.
_SWINGS = ((0.05, 90, 180), (0.07, 200, 500), (0.08, 600, 1_200))
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
        self._order = _order(seed, self.stations, self.bikes)
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
        is_empty, error = self._odd_document(stamp)
        if is_empty:
            return f"{HEADER}\n"
        chance, kind, where, *_ = draws(self._seed, "malformed", stamp)
        stamp += error
        lines = [f"{line}\n" for line in self._lines(stamp, world)]
        if chance < self._oddities.malformed:
            malform(lines, kind, where)
        return f"{HEADER}\n{''.join(lines)}"

    def is_whole(self, at: dt.datetime) -> bool:
        """Whether the document of this time is neither empty nor dated by a wrong clock."""
        return self._odd_document((at - _EPOCH) // _MICROSECOND) == (False, 0)

    def accelerated(self, factor: float, since: dt.datetime) -> Callable[[dt.datetime], str]:
        """The documents of a world that runs `factor` times faster from `since` on, while its stamps stay real."""

        def document(at: dt.datetime) -> str:
            return self.snapshot(at, world_time=since + factor * (at - since))

        return document

    def _odd_document(self, stamp: int) -> tuple[bool, int]:
        """Whether a document is empty, and by how many microseconds its clock is wrong."""
        emptied, misled, error, *_ = draws(self._seed, "document", stamp)
        wrong = CLOCK_ERRORS_US[int(error * len(CLOCK_ERRORS_US))]
        return emptied < self._oddities.empty, wrong if misled < self._oddities.wrong_clock else 0

    def _lines(self, stamp: int, world: float) -> Iterator[str]:
        """The lines of all stations and of the bikes that are to be seen, each a little later than the one before."""
        long_ago = stamp - stamp % _DAY_US - 2 * _DAY_US, world - world % DAY - 2 * DAY
        written = 0
        for each in self._order:
            said, seen = long_ago if each.id in self._stale else (stamp, world)
            line = each.line(said + self._offsets[written], seen)
            if line is not None:
                yield line
            # A bike that is not to be seen among the stations leaves its time unused, so that theirs stay the same.
            if line is not None or written < len(self.stations):
                written += 1


def _order(seed: int, stations: Sequence[Station], bikes: Sequence[FreeBike]) -> list[Station | FreeBike]:
    """The order of the feed's lines: stations by id but for a few, then bikes by nothing, one of them too early."""
    rng = dice(seed, "order")
    order: list[Station | FreeBike] = list(stations)
    for index in sorted(_some(seed, "late", len(stations), _OUT_OF_ORDER)):
        order.insert(rng.randrange(index, len(stations)), order.pop(index))
    early = int(len(stations) * rng.random())
    return [*order[:early], *bikes[:1], *order[early:], *bikes[1:]]


def _some(seed: int, what: str, count: int, share: float) -> frozenset[int]:
    """A random choice of `share` of the numbers below `count`."""
    return frozenset(dice(seed, what).sample(range(count), round(share * count)))


def _stations(seed: int, count: int, oddities: Oddities) -> tuple[Station, ...]:
    """The docking stations: most of them where most people are."""
    rng = dice(seed, "stations")
    # A very large city begins to repeat its names, as real ones do; the id tells stations apart.
    names = {district: cycle(district.names(rng)) for district in DISTRICTS}
    crowded = _some(seed, "over capacity", count, oddities.over_capacity)
    broken = _some(seed, "broken", count, oddities.broken)
    luck = dice(seed, "swell")
    surplus = [min(3 + luck.expovariate(1 / 10), 25) for _ in range(count)]
    stations = []
    for index, district in enumerate(rng.choices(DISTRICTS, [d.weight for d in DISTRICTS], k=count)):
        docks = rng.choices(_DOCKS, _DOCKS_WEIGHTS)[0]
        station = Station(
            id=str(_FIRST_STATION + index),
            name=next(names[district]),
            place=district.place(rng),
            area=district.area,
            docks=docks,
            pedelecs=rng.choices((0, 1, 2), (94, 5, 1))[0],
            # fast small swings and slow large ones, all slower than a bike a minute
            swings=tuple((size, 60 * rng.uniform(low, high), rng.uniform(0, math.tau)) for size, low, high in _SWINGS),
            lean=(0.08 if index in crowded else 0.0) + rng.uniform(-0.35, 0.2),
            lag_seconds=rng.uniform(-2_400, 2_400),
            swell=min(1 + surplus[index] / docks, 5.0) if index in crowded else 1.0,
            broken=int(index in broken),
        )
        stations.append(station)
    return tuple(stations)


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
            roam_km=_DEPOT_KM if index in abroad else _STROLL_KM,
            stay_seconds=rng.uniform(*(_DEPOT_STAY_SECONDS if index in abroad else STAY_SECONDS)),
            charge_seconds=rng.uniform(2 * DAY, 5 * DAY) if rng.random() < _PEDELECS else 0,
        )
        for index, number in enumerate(numbers)
    )
