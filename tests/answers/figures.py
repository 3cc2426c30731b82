"""The tables about stations, by plain Python: each a dictionary by its key; seconds are fractions."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.answers.reference import HOUR, SECOND, Episode, Life, Place, State, as_time

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
    """By station: means and shares over all known time; when it was seen, and with how many bikes, by all rows."""
    lasted: defaultdict[str, Counter[State]] = defaultdict(Counter)
    for (station, _), states in life.lasted.items():
        lasted[station].update(states)
    return {station: _summary(Held(lasted[station]), seen) for station, seen in life.seen.items()}


def _summary(held: Held, seen: Sequence[tuple[int, int | None]]) -> dict[str, object]:
    known, bikes = held.known_seconds, [count for _, count in seen if count is not None]
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
        "share_full": held.full_seconds / known if known else None,
    }


def former_stations(life: Life) -> dict[str, dt.datetime]:
    """Stations that are not in the newest snapshot that has any, and when they were last seen."""
    return {station: as_time(seen[-1][0]) for station, seen in life.seen.items() if station not in life.latest}
