"""The tables about stations, by plain Python: each a dictionary by its key; seconds are fractions."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from tests.answers.reference import HOUR, SECOND, Interval, Life, Place, State, as_time

KINDS = ("empty", "full")
USUAL_DAYS = 56
QUANTILES = (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))


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
    """By station and hour with known time: bikes that left and came, as far as counts tell."""
    found: dict[Place, dict[str, object]] = {}
    for place, lasted in life.lasted.items():
        known, departures, arrivals = Held(lasted).known_seconds, life.departures[place], life.arrivals[place]
        if known:
            flows = {"departures": departures, "arrivals": arrivals, "net_change": arrivals - departures}
            found[place] = {**flows, "known_seconds": known}
    return found


def station_episodes(life: Life) -> dict[tuple[str, str, int], dict[str, object]]:
    """By station, `empty` or `full`, and beginning: how long it lasted, at least and at most."""
    found: dict[tuple[str, str, int], dict[str, object]] = {}
    for station, kind in product(life.seen, KINDS):
        possible = life.possible_episodes(station, kind)
        for since, until in life.episodes(station, kind):
            (at_most,) = (end - began for began, end in possible if began <= since and until <= end)
            found[station, kind, since] = {
                "ended_at": as_time(until),
                "seconds": Fraction(until - since, SECOND),
                "seconds_at_most": Fraction(at_most, SECOND),
            }
    return found


Period = tuple[str, dt.date, int]
"""`hour`, `day` or `week`, the local date (of a week its Monday's), and the hour (UTC, microseconds; of others 0)."""


def _period(life: Life, hour: int, kind: str) -> Period:
    date = local(life, hour).date()
    if kind == "week":
        date -= dt.timedelta(days=date.weekday())
    return kind, date, hour if kind == "hour" else 0


def station_service_levels(life: Life, kind: str) -> dict[tuple[str, Period], dict[str, object]]:
    """By station and `hour`, `day` or `week` (local): seconds empty and full, at least and at most, and the episodes.

    At most: as if it had been so in all unknown time. An episode belongs to every period that it touches, with its
    whole length.
    """
    since, until = life.coverage.extent
    told: defaultdict[Period, list[int]] = defaultdict(list)
    for hour in range(since // HOUR * HOUR, until, HOUR):
        told[_period(life, hour, kind)].append(hour)
    lasted: defaultdict[tuple[str, Period], Counter[State]] = defaultdict(Counter)
    for station, hour in _places(life):
        lasted[station, _period(life, hour, kind)].update(life.lasted.get((station, hour), {}))
    episodes = {
        (station, name): (life.episodes(station, name), life.possible_episodes(station, name))
        for station in life.seen
        for name in KINDS
    }
    found = {}
    for (station, period), states in lasted.items():
        held, hours = Held(states), told[period]
        unknown = _told_seconds(life, hours) - held.known_seconds
        row: dict[str, object] = {"known_seconds": held.known_seconds, "unknown_seconds": unknown}
        for name, seconds in (("empty", held.empty_seconds), ("full", held.full_seconds)):
            certain, possible = (_touching(intervals, hours) for intervals in episodes[station, name])
            row |= {
                f"{name}_seconds": seconds,
                f"{name}_seconds_at_most": seconds + unknown,
                f"{name}_episodes": len(certain),
                f"longest_{name}_seconds": max(certain, default=Fraction()),
                f"longest_{name}_seconds_at_most": max(possible, default=Fraction()),
            }
        found[station, period] = row
    return found


def _touching(intervals: Iterable[Interval], hours: Sequence[int]) -> list[Fraction]:
    """The lengths of those that touch these hours, which follow each other."""
    first, last = (hours[0], hours[-1] + HOUR) if hours else (0, 0)
    return [Fraction(until - since, SECOND) for since, until in intervals if since < last and until > first]


def station_usual(life: Life) -> dict[tuple[str, int, int], dict[str, object]]:
    """By station, local weekday (1 is Monday) and hour: bikes over the last 8 weeks of finished local days."""
    today = local(life, life.coverage.extent[1]).date()
    first = today - dt.timedelta(days=USUAL_DAYS)
    hours: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
    for (station, hour), states in life.lasted.items():
        here = local(life, hour)
        if first <= here.date() < today and Held(states).known:
            hours[station, here.isoweekday(), here.hour].append(hour)
    return {key: _usual(life, key[0], found) for key, found in hours.items()}


def _usual(life: Life, station: str, hours: Sequence[int]) -> dict[str, object]:
    held, bikes = Held(sum((life.lasted[station, hour] for hour in hours), Counter[State]())), Counter[int]()
    for state in held.known:
        bikes[state.bikes or 0] += held.lasted[state]
    return {
        **{name: quantile(bikes, share) for name, share in zip(("p10", "median", "p90"), QUANTILES, strict=True)},
        "known_seconds": held.known_seconds,
        "empty_seconds": held.empty_seconds,
        "full_seconds": held.full_seconds,
        "departures": sum(life.departures[station, hour] for hour in hours),
        "arrivals": sum(life.arrivals[station, hour] for hour in hours),
        "days": len({local(life, hour).date() for hour in hours}),
    }


def station_summary(life: Life) -> dict[str, dict[str, object]]:
    """By station: means and shares over all known time; when it was seen, and with how many bikes, by all rows."""
    lasted: defaultdict[str, Counter[State]] = defaultdict(Counter)
    for (station, _), states in life.lasted.items():
        lasted[station].update(states)
    return {station: _summary(Held(lasted[station]), seen) for station, seen in life.seen.items()}


def _summary(held: Held, seen: Sequence[tuple[int, State]]) -> dict[str, object]:
    known, bikes = held.known_seconds, [state.bikes for _, state in seen if state.bikes is not None]
    has_room = held.occupancy is not None or seen[-1][1].docks is not None  # else nobody knows whether it is full
    return {
        "observations": len(seen),
        "first_seen": as_time(seen[0][0]),
        "last_seen": as_time(seen[-1][0]),
        "known_seconds": known,
        "mean_bikes": held.figures("bikes")[0],
        "min_bikes": min(bikes, default=None),
        "max_bikes": max(bikes, default=None),
        "mean_occupancy": held.occupancy,
        "share_empty": held.empty_seconds / known if known else None,
        "share_full": held.full_seconds / known if known and has_room else None,
    }


def former_stations(life: Life) -> dict[str, dt.datetime]:
    """Stations that are not in the newest snapshot that has any, and when they were last seen."""
    return {station: as_time(seen[-1][0]) for station, seen in life.seen.items() if station not in life.latest}
