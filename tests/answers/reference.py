"""The answers about stations, by plain Python: the definitions of the catalog, word by word.

It shares no code with bikeflow, and stands on raw snapshots and on coverage alone. Times are whole microseconds since
1970 (UTC), figures are whole numbers and fractions: nothing is rounded anywhere.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as in the tables
USUAL_DAYS = 56
QUANTILES = (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))
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
    def is_full(self) -> bool:
        """It has bikes, and no more can be returned: there is no space, or a bike for each dock."""
        if self.bikes is None or self.bikes <= 0:
            return False
        return (self.spaces is not None and self.spaces <= 0) or (
            self.docks is not None and 0 < self.docks <= self.bikes
        )

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
        joined: list[Interval] = []
        for began, ended, is_known in rows:
            if is_known and joined and joined[-1][1] == began:
                joined[-1] = (joined[-1][0], ended)
            elif is_known:
                joined.append((began, ended))
        return cls(joined, extent)

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


@dataclass
class Episode:
    """A time in which a station was known to be empty (or full) without a break."""

    station: str
    kind: str
    since: int
    until: int

    @property
    def seconds(self) -> Fraction:
        """How long it lasted."""
        return Fraction(self.until - self.since, SECOND)


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
    episodes: list[Episode] = field(default_factory=list)
    seen: dict[str, Interval] = field(default_factory=dict)
    """The first and the last snapshot of each station."""
    newest: int = 0
    """The newest snapshot that tells of stations."""


def telling(snapshots: Iterable[Snapshot], latest: int) -> list[Snapshot]:
    """The snapshots that tell of stations, in time: those with any, in their own day's folder, not of the future.

    Of two at the same second the last one by key wins.
    """
    ordered = sorted(snapshots, key=lambda one: (one.at, one.key))
    found = {
        one.at: one for one in ordered if one.stations and one.at <= latest and one.folder == as_time(one.at).date()
    }
    return list(found.values())


def lived(snapshots: Iterable[Snapshot], coverage: Coverage, zone: str, latest: int = 2**62) -> Life:
    """All that is known: each state lasts until the next snapshot, as far as coverage reaches."""
    life, ongoing = Life(coverage, ZoneInfo(zone)), dict[tuple[str, str], Episode]()
    found = telling(snapshots, latest)
    for one in found:
        for station in one.stations:
            life.observations[station, one.at // HOUR * HOUR] += 1
            life.seen[station] = (life.seen.get(station, (one.at, 0))[0], one.at)
        life.newest = one.at
    for before, after in pairwise([*found, None]):
        assert before is not None
        end_of_next_day = (before.at // DAY + 2) * DAY
        until = end_of_next_day if after is None else min(after.at, end_of_next_day)
        known = coverage.within(before.at, until)
        _last(life, before, known)
        _note_episodes(life, ongoing, before, known)
        if after is not None and known == [(before.at, after.at)]:  # without a break
            _note_flows(life, before, after)
    return life


def _last(life: Life, snapshot: Snapshot, known: Iterable[Interval]) -> None:
    for since, until in known:
        for hour in range(since // HOUR * HOUR, until, HOUR):
            lasted = min(until, hour + HOUR) - max(since, hour)
            for station, state in snapshot.stations.items():
                life.lasted[station, hour][state] += lasted


def _note_episodes(
    life: Life, ongoing: dict[tuple[str, str], Episode], snapshot: Snapshot, known: Iterable[Interval]
) -> None:
    """An episode goes on where the station is still empty (or full) from the very moment until which it was."""
    for since, until in known:
        for station, state in snapshot.stations.items():
            for kind in ["empty"] * state.is_empty + ["full"] * state.is_full:
                episode = ongoing.get((station, kind))
                if episode is not None and episode.until == since:
                    episode.until = until
                else:
                    ongoing[station, kind] = episode = Episode(station, kind, since, until)
                    life.episodes.append(episode)


def _note_flows(life: Life, before: Snapshot, after: Snapshot) -> None:
    hour = after.at // HOUR * HOUR
    for station, state in after.stations.items():
        former = before.stations.get(station)
        if former is None or former.bikes is None or state.bikes is None:
            continue
        life.departures[station, hour] += max(former.bikes - state.bikes, 0)
        life.arrivals[station, hour] += max(state.bikes - former.bikes, 0)


# The tables. Each is a dictionary by its key; seconds are fractions.


@dataclass(frozen=True)
class Held:
    """Figures of a time, from how long each state lasted in it (microseconds)."""

    lasted: Mapping[State, int]

    def seconds(self, states: Iterable[State]) -> Fraction:
        """How long these lasted."""
        return Fraction(sum(self.lasted[state] for state in states), SECOND)

    @property
    def known(self) -> list[State]:
        """The states in which bikes are known."""
        return [state for state in self.lasted if state.bikes is not None]

    @property
    def known_seconds(self) -> Fraction:
        """For how long bikes were known."""
        return self.seconds(self.known)

    @property
    def empty_seconds(self) -> Fraction:
        """For how long there was no bike to take."""
        return self.seconds(state for state in self.known if state.is_empty)

    @property
    def full_seconds(self) -> Fraction:
        """For how long no bike could be returned."""
        return self.seconds(state for state in self.known if state.is_full)

    def figures(self, name: str) -> tuple[Fraction | None, int | None, int | None]:
        """Mean, least and most of `bikes` or `spaces`, over the time in which they are known."""
        values = Counter[int]()
        for state, lasted in self.lasted.items():
            if (value := getattr(state, name)) is not None:
                values[value] += lasted
        return mean(values), min(values, default=None), max(values, default=None)

    @property
    def occupancy(self) -> Fraction | None:
        """The mean occupancy."""
        values = Counter[Fraction]()
        for state, lasted in self.lasted.items():
            if (value := state.occupancy) is not None:
                values[value] += lasted
        return mean(values)


def mean(values: Mapping[int, int] | Mapping[Fraction, int]) -> Fraction | None:
    """The mean of values that lasted so long each."""
    total = sum(values.values())
    return sum((Fraction(value) * lasted for value, lasted in values.items()), Fraction()) / total if total else None


def quantile(values: Mapping[int, int], share: Fraction) -> int:
    """The smallest value such that it and all smaller ones lasted for this share of the time."""
    reached, wanted = 0, share * sum(values.values())
    for value in sorted(values):
        reached += values[value]
        if reached >= wanted:
            return value
    raise ValueError("no value")


def _places(life: Life) -> Iterator[Place]:
    """The stations and hours that have a row: the station was seen in the hour, or something is known of it."""
    yield from sorted({*life.lasted, *life.observations})


def local(life: Life, at: int) -> dt.datetime:
    """A time on the clocks of the system."""
    return as_time(at).replace(tzinfo=dt.UTC).astimezone(life.zone)


def _told_seconds(life: Life, hours: Iterable[int]) -> Fraction:
    """How much of these hours coverage reaches, known or not, until now."""
    since, until = life.coverage.extent
    return sum((Fraction(max(min(until, hour + HOUR) - max(since, hour), 0), SECOND) for hour in hours), Fraction())


def station_hourly(life: Life) -> dict[Place, dict[str, object]]:
    """By station and hour: how often it was seen, and its bikes and spaces over known time."""
    return {place: _hour(life, *place) for place in _places(life)}


def _hour(life: Life, station: str, hour: int) -> dict[str, object]:
    held, here = Held(life.lasted.get((station, hour), {})), local(life, hour)
    bikes, spaces = held.figures("bikes"), held.figures("spaces")
    return {
        "date": as_time(hour).date(),
        "hour": as_time(hour).hour,
        "local_date": here.date(),
        "local_hour": here.hour,
        "observations": life.observations[station, hour],
        "known_seconds": held.known_seconds,
        "unknown_seconds": _told_seconds(life, [hour]) - held.known_seconds,
        **dict(zip(("mean_bikes", "min_bikes", "max_bikes"), bikes, strict=True)),
        **dict(zip(("mean_spaces", "min_spaces", "max_spaces"), spaces, strict=True)),
        "empty_seconds": held.empty_seconds,
        "full_seconds": held.full_seconds,
    }


def station_flows_hourly(life: Life) -> dict[Place, dict[str, object]]:
    """By station and hour: bikes that left and came, as far as counts tell; None where nothing is known."""
    found: dict[Place, dict[str, object]] = {}
    for place in _places(life):
        known = Held(life.lasted.get(place, {})).known_seconds
        departures, arrivals = life.departures[place], life.arrivals[place]
        flows = (departures, arrivals, arrivals - departures) if known else (None, None, None)
        found[place] = {
            **dict(zip(("departures", "arrivals", "net_change"), flows, strict=True)),
            "known_seconds": known,
        }
    return found


Period = tuple[str, str, dt.date, int]
"""A station, `hour`, `day` or `week`, the local date (of a week its Monday's), and the hour (UTC; of others 0)."""


def _period(life: Life, place: Place, kind: str) -> Period:
    station, hour = place
    date = local(life, hour).date()
    if kind == "week":
        date -= dt.timedelta(days=date.weekday())
    return station, kind, date, hour if kind == "hour" else 0


def station_service_levels(life: Life, kind: str) -> dict[Period, dict[str, object]]:
    """By station and `hour`, `day` or `week` (local): seconds empty and full, at least and at most, and the episodes.

    At most: all unknown time counts as well. An episode belongs to every period that it touches, with its whole length.
    """
    hours: defaultdict[Period, list[int]] = defaultdict(list)
    lasted: defaultdict[Period, Counter[State]] = defaultdict(Counter)
    for place in _places(life):
        period = _period(life, place, kind)
        hours[period].append(place[1])
        lasted[period].update(life.lasted.get(place, {}))
    episodes: defaultdict[Period, list[Episode]] = defaultdict(list)
    for episode in life.episodes:
        touched = range(episode.since // HOUR * HOUR, episode.until, HOUR)
        for period in {_period(life, (episode.station, hour), kind) for hour in touched}:
            episodes[period].append(episode)
    return {
        period: _service(Held(lasted[period]), _told_seconds(life, hours[period]), episodes[period]) for period in hours
    }


def _service(held: Held, told_seconds: Fraction, episodes: Iterable[Episode]) -> dict[str, object]:
    unknown = told_seconds - held.known_seconds
    found: dict[str, object] = {"known_seconds": held.known_seconds, "unknown_seconds": unknown}
    for kind, seconds in (("empty", held.empty_seconds), ("full", held.full_seconds)):
        lengths = [episode.seconds for episode in episodes if episode.kind == kind]
        found |= {
            f"{kind}_seconds": seconds,
            f"{kind}_seconds_upper": seconds + unknown,
            f"{kind}_episodes": len(lengths),
            f"longest_{kind}_seconds": max(lengths, default=Fraction()),
        }
    return found


def station_usual(life: Life) -> dict[tuple[str, int, int], dict[str, object]]:
    """By station, local weekday (1 is Monday) and hour: bikes over the last 8 weeks of finished local days."""
    today = local(life, life.coverage.extent[1]).date()
    first = today - dt.timedelta(days=USUAL_DAYS)
    values: defaultdict[tuple[str, int, int], Counter[int]] = defaultdict(Counter)
    days: defaultdict[tuple[str, int, int], set[dt.date]] = defaultdict(set)
    for (station, hour), lasted in life.lasted.items():
        here = local(life, hour)
        key = (station, here.isoweekday(), here.hour)
        for state, duration in lasted.items():
            if state.bikes is not None and first <= here.date() < today:
                values[key][state.bikes] += duration
                days[key].add(here.date())
    return {
        key: {
            **{name: quantile(found, share) for name, share in zip(("p10", "median", "p90"), QUANTILES, strict=True)},
            "known_seconds": Fraction(sum(found.values()), SECOND),
            "days": len(days[key]),
        }
        for key, found in values.items()
    }


def station_summary(life: Life) -> dict[str, dict[str, object]]:
    """By station, over all known time."""
    lasted: defaultdict[str, Counter[State]] = defaultdict(Counter)
    observations = Counter[str]()
    for (station, _), states in life.lasted.items():
        lasted[station].update(states)
    for (station, _), count in life.observations.items():
        observations[station] += count
    return {
        station: _summary(Held(lasted[station]), observations[station], seen) for station, seen in life.seen.items()
    }


def _summary(held: Held, observations: int, seen: Interval) -> dict[str, object]:
    known = held.known_seconds
    return {
        "observations": observations,
        "first_seen": as_time(seen[0]),
        "last_seen": as_time(seen[1]),
        "known_seconds": known,
        **dict(zip(("mean_bikes", "min_bikes", "max_bikes"), held.figures("bikes"), strict=True)),
        "mean_occupancy": held.occupancy,
        "share_empty": held.empty_seconds / known if known else None,
        "share_full": held.full_seconds / known if known else None,
    }


def former_stations(life: Life) -> dict[str, dt.datetime]:
    """Stations that are not in the newest snapshot that tells of stations, and when they were last seen."""
    return {station: as_time(last) for station, (_, last) in life.seen.items() if last < life.newest}
