"""The answers about stations, by plain Python: the definitions of the catalog, word by word.

It shares no code with bikeflow, and stands on raw snapshots and on coverage alone. Times are whole microseconds since
1970 (UTC), figures are whole numbers and fractions: nothing is rounded anywhere.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as in the tables
Interval = tuple[int, int]


def microseconds(time: dt.datetime) -> int:
    """A time of UTC, naive or not."""
    return (time.replace(tzinfo=None) - EPOCH) // dt.timedelta(microseconds=1)


def as_time(at: int) -> dt.datetime:
    """The same as a naive time of UTC."""
    return EPOCH + dt.timedelta(microseconds=at)


@dataclass(frozen=True, slots=True)
class State:
    """What a snapshot says of a station; None is unknown."""

    bikes: int | None
    spaces: int | None
    docks: int | None

    @property
    def is_empty(self) -> bool:
        """No bike can be taken, though there is room for some, or nobody says that there is none."""
        return self.bikes is not None and self.bikes <= 0 and (self.spaces is None or self.spaces > 0)

    @property
    def is_out_of_service(self) -> bool:
        """There are neither bikes nor spaces: it is closed for a while."""
        return self.bikes is not None and self.bikes <= 0 and self.spaces is not None and self.spaces <= 0

    @property
    def is_full(self) -> bool:
        """It has bikes, and no more can be returned: there is no space, or a bike for each dock."""
        if self.bikes is None or self.bikes <= 0:
            return False
        return (self.spaces is not None and self.spaces <= 0) or (
            self.docks is not None and 0 < self.docks <= self.bikes
        )

    def holds(self, kind: str) -> bool:
        """Whether it is `empty`, or `full`."""
        return self.is_empty if kind == "empty" else self.is_full

    @property
    def occupancy(self) -> Fraction | None:
        """The share of bikes among bikes and spaces."""
        if self.bikes is None or self.spaces is None or self.bikes + self.spaces == 0:
            return None
        return Fraction(self.bikes, self.bikes + self.spaces)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A raw file: its key, the day of its folder, its time, and the stations in it."""

    key: str
    folder: dt.date
    at: int
    stations: Mapping[str, State]


@dataclass(frozen=True)
class Coverage:
    """When the state of a system is known, and from when to when anything is told of it at all: until "now"."""

    known: Sequence[Interval]
    extent: Interval

    @classmethod
    def of(cls, intervals: Iterable[tuple[dt.datetime, dt.datetime, bool]]) -> Coverage:
        """From rows of the table: from, until, and whether the state is known."""
        rows = sorted((microseconds(began), microseconds(ended), known) for began, ended, known in intervals)
        extent = (min((row[0] for row in rows), default=0), max((row[1] for row in rows), default=0))
        return cls(joined((began, ended) for began, ended, is_known in rows if is_known), extent)

    def within(self, since: int, until: int) -> list[Interval]:
        """What is known of an interval."""
        first = max(bisect_right(self.known, (since, since)) - 1, 0)
        found = []
        for began, ended in self.known[first:]:
            if began >= until:
                break
            if max(began, since) < min(ended, until):
                found.append((max(began, since), min(ended, until)))
        return found


Place = tuple[str, int]
"""A station, and the beginning of a clock hour (UTC)."""


@dataclass
class Life:
    """What is known of a system's stations, hour by hour: all tables are made of it."""

    coverage: Coverage
    zone: ZoneInfo
    lasted: dict[Place, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    """How long each state was known to last (microseconds)."""
    observations: Counter[Place] = field(default_factory=Counter)
    departures: Counter[Place] = field(default_factory=Counter)
    arrivals: Counter[Place] = field(default_factory=Counter)
    stretches: dict[str, list[tuple[Interval, State]]] = field(default_factory=lambda: defaultdict(list))
    """What was known of each station when, in time, as far as bikes were known."""
    seen: dict[str, list[tuple[int, State]]] = field(default_factory=lambda: defaultdict(list))
    """When each station was seen, in time, wherever the raw file lies, and its state then."""
    changes: list[tuple[str, int, State, State]] = field(default_factory=list)
    """What was seen to leave or come: the station, when it was seen, and its states before and after."""
    latest_at: int = 0
    latest: Mapping[str, State] = field(default_factory=dict)
    """The stations of the newest snapshot that has any."""

    def episodes(self, station: str, kind: str) -> list[Interval]:
        """When a station was known to be `empty` (or `full`) without a break."""
        return joined(interval for interval, state in self.stretches[station] if state.holds(kind))

    def possible_episodes(self, station: str, kind: str) -> list[Interval]:
        """When nothing that is known says that it was not: from its first known state to the last."""
        stretches = self.stretches[station]
        otherwise = joined(interval for interval, state in stretches if not state.holds(kind))
        borders = [(0, stretches[0][0][0]), *otherwise, (stretches[-1][0][1], 0)] if stretches else []
        return [(before, since) for (_, before), (since, _) in pairwise(borders) if before < since]


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Intervals, in time, with those made one that follow each other without a break."""
    found: list[Interval] = []
    for since, until in intervals:
        if found and found[-1][1] == since:
            found[-1] = (found[-1][0], until)
        else:
            found.append((since, until))
    return found


def telling(ordered: Iterable[Snapshot]) -> list[Snapshot]:
    """The snapshots that tell of states, given in the order of time and key: those in their own day's folder.

    Of two at the same second the last one wins.
    """
    return list({one.at: one for one in ordered if one.folder == as_time(one.at).date()}.values())


def lived(snapshots: Iterable[Snapshot], coverage: Coverage, zone: str, latest: int = 2**62) -> Life:
    """All that is known, by snapshots that have stations, and are not later than `latest`.

    A state lasts until the next snapshot, as far as coverage reaches; without one on the same day or the next, until
    midnight (UTC). A change is seen where the state before it was known until that very moment.
    """
    life = Life(coverage, ZoneInfo(zone))
    counted = (one for one in snapshots if one.stations and one.at <= latest)
    ordered = sorted(counted, key=lambda one: (one.at, one.key))
    for one in ordered:
        life.latest_at, life.latest = one.at, one.stations
        for station, state in one.stations.items():
            life.seen[station].append((one.at, state))
    found = telling(ordered)
    for one in found:
        life.observations.update((station, one.at // HOUR * HOUR) for station in one.stations)
    for before, after in pairwise([*found, None]):
        assert before is not None
        is_followed = after is not None and after.at // DAY - before.at // DAY <= 1
        until = after.at if after is not None and is_followed else (before.at // DAY + 1) * DAY
        known = coverage.within(before.at, until)
        _last(life, before, known)
        if after is not None and is_followed and known and known[-1][1] == after.at:
            _note_flows(life, before, after)
    return life


def _last(life: Life, snapshot: Snapshot, known: Iterable[Interval]) -> None:
    for since, until in known:
        for station, state in snapshot.stations.items():
            if state.bikes is not None:
                life.stretches[station].append(((since, until), state))
        for hour in range(since // HOUR * HOUR, until, HOUR):
            lasted = min(until, hour + HOUR) - max(since, hour)
            for station, state in snapshot.stations.items():
                life.lasted[station, hour][state] += lasted


def _note_flows(life: Life, before: Snapshot, after: Snapshot) -> None:
    hour = after.at // HOUR * HOUR
    for station, state in after.stations.items():
        former = before.stations.get(station)
        if former is None or former.bikes is None or state.bikes is None:
            continue
        if former.is_out_of_service or state.is_out_of_service:
            continue
        life.changes.append((station, after.at, former, state))
        life.departures[station, hour] += max(former.bikes - state.bikes, 0)
        life.arrivals[station, hour] += max(state.bikes - former.bikes, 0)
