"""What `bike_moves` and `fleet_hourly` must hold, by plain Python over rows: it shares no code with the tables."""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.answers.places import lasting
from tests.answers.reference import SECOND, Coverage, as_time
from tests.warehouse.expected import FOREVER, Row, counted, file_coverage, listings

SAME_PLACE_METRES = 100
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
Snapshot = tuple[dt.datetime, list[Row]]
Known = list[tuple[dt.datetime, dt.datetime]]


@dataclass(frozen=True)
class Move:
    """A row of `bike_moves`, but for what is counted from it."""

    bike: str
    before: Row
    after: Row
    began_at: dt.datetime
    ended_at: dt.datetime
    out_of_sight: bool

    @property
    def metres(self) -> float:
        """As the crow flies."""
        return metres(self.before, self.after) or 0.0

    @property
    def seconds(self) -> float:
        """How long it took at most."""
        return (self.ended_at - self.began_at).total_seconds()


@dataclass
class LastSeen:
    """What is known of a bike: where it was last told to be, until when, and whether it is still there."""

    row: Row
    seen_at: dt.datetime
    present: bool
    today: bool


def metres(before: Row, after: Row) -> float | None:
    """Distance on a sphere by the angle between two unit vectors; None where a place is unknown."""
    if None in (before["lat"], before["lon"], after["lat"], after["lon"]):
        return None
    (x, y, z), (u, v, w) = _unit(before), _unit(after)
    cross = math.hypot(y * w - z * v, z * u - x * w, x * v - y * u)
    return 6371008.8 * math.atan2(cross, x * u + y * v + z * w)


def _unit(row: Row) -> tuple[float, float, float]:
    lat, lon = math.radians(row["lat"]), math.radians(row["lon"])
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


def is_moved(before: Row, after: Row) -> bool:
    """Whether two places are farther apart than a vehicle that stands still seems to be."""
    far = metres(before, after)
    return far is not None and far > SAME_PLACE_METRES


def usable_snapshots(rows: Iterable[Row], now: dt.datetime = FOREVER) -> dict[dt.date, list[Snapshot]]:
    """By day, in the order of time: those in their own day's folder with a station or bike; of a second, the last."""
    files: dict[tuple[dt.datetime, str], list[Row]] = defaultdict(list)
    for row in counted(rows, now):
        if row["record_type"] != "unknown" and row["file_timestamp"].date() == row["date"]:
            files[row["file_timestamp"], row["s3_source_key"]].append(row)
    by_time = {time: files[time, key] for time, key in sorted(files)}
    days: dict[dt.date, list[Snapshot]] = defaultdict(list)
    for time, seen in by_time.items():
        days[time.date()].append((time, seen))
    return days


def _bikes(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["station_id"]: row for row in rows if row["record_type"] == "bike"}


def _is_reset(before: dict[str, Row], after: dict[str, Row]) -> bool:
    """Whether the ids may not mean the same bikes any more."""
    stayed = sum(bike in before and not is_moved(before[bike], row) for bike, row in after.items())
    most = max(len(before), len(after))
    return most >= 10 and 2 * stayed < most


def _walk(snapshots: list[Snapshot], known: dict[str, LastSeen]) -> Iterator[Move]:
    """The moves of a day; `known` is what the day before tells, and what the day tells at its end."""
    listed: dict[str, Row] = {}
    last_at = None
    for time, rows in snapshots:
        now = _bikes(rows)
        if last_at is None:
            yield from _over_midnight(time, now, known)
        elif _is_reset(listed, now):
            known.clear()
        else:
            yield from _next(time, now, last_at, listed, known)
        listed, last_at = now, time
    for one in known.values():
        if one.present and one.today and last_at is not None:
            one.seen_at = last_at
    for bike in [bike for bike, one in known.items() if not one.today]:
        del known[bike]


def _over_midnight(time: dt.datetime, now: dict[str, Row], known: dict[str, LastSeen]) -> Iterator[Move]:
    if _is_reset({bike: one.row for bike, one in known.items() if one.present}, now):
        known.clear()
    for bike, row in now.items():
        one = known.get(bike)
        if one is not None and is_moved(one.row, row):
            yield Move(bike, one.row, row, one.seen_at, time, out_of_sight=not one.present)
        known[bike] = LastSeen(row, time, present=True, today=True)
    for bike in known.keys() - now.keys():
        known[bike].present = False


def _next(
    time: dt.datetime, now: dict[str, Row], last_at: dt.datetime, listed: dict[str, Row], known: dict[str, LastSeen]
) -> Iterator[Move]:
    for bike in listed.keys() - now.keys():
        known[bike] = LastSeen(listed[bike], last_at, present=False, today=True)
    for bike, row in now.items():
        if bike in listed:
            if is_moved(listed[bike], row):
                yield Move(bike, listed[bike], row, last_at, time, out_of_sight=False)
                known[bike] = LastSeen(row, time, present=True, today=True)
            continue
        one = known.get(bike)
        if one is not None and is_moved(one.row, row):
            yield Move(bike, one.row, row, one.seen_at, time, out_of_sight=True)
        known[bike] = LastSeen(row, time, present=True, today=True)


def bike_moves(rows: Iterable[Row], now: dt.datetime = FOREVER) -> dict[tuple[str, dt.datetime], tuple[Any, ...]]:
    """By bike and end: begin, places, metres, seconds (also unknown), out of sight, battery, range, suspected, hour."""
    rows = list(rows)
    days, known_time = usable_snapshots(rows, now), _known(rows, now)
    found: dict[tuple[str, dt.datetime], tuple[Any, ...]] = {}
    for day in days:
        known: dict[str, LastSeen] = {}
        list(_walk(days.get(day - DAY, []), known))
        for one in known.values():
            one.today = False
        moves = list(_walk(days[day], known))
        for move in moves:
            unknown_seconds = move.seconds - _overlap(known_time, move.began_at, move.ended_at)
            near = [other for other in moves if other.bike == move.bike]
            at = near.index(move)
            found[move.bike, move.ended_at] = (
                move.began_at,
                *(one[name] for one in (move.before, move.after) for name in ("lat", "lon")),
                move.metres,
                move.seconds,
                unknown_seconds,
                move.out_of_sight,
                *(one[name] for name in ("battery_level", "range_meters") for one in (move.before, move.after)),
                _suspected(move, near[at - 1 : at] + near[at + 1 : at + 2], moves if unknown_seconds == 0 else []),
                *(move.ended_at.date(), move.ended_at.hour),
                *_local(move.ended_at),
            )
    return found


def _suspected(move: Move, neighbours: list[Move], moves: list[Move]) -> str | None:
    kmh = 3.6 * move.metres / move.seconds
    if kmh > 130 or any(_leads_back(move, other) for other in neighbours):
        return "jitter"
    gains = (("battery_level", 5), ("range_meters", 2000))
    charged = any(
        None not in (move.before[name], move.after[name]) and move.after[name] - move.before[name] >= gain
        for name, gain in gains
    )
    together = sum(
        _cell(other) == _cell(move) and abs(other.ended_at - move.ended_at) <= dt.timedelta(minutes=5)
        for other in moves
    )
    if kmh > 30 or charged or together >= 4:
        return "relocation"
    return "trip" if move.seconds <= 90 * 60 else None


def _leads_back(move: Move, other: Move) -> bool:
    earlier, later = sorted((move, other), key=lambda one: one.ended_at)
    if move.out_of_sight or other.out_of_sight or later.ended_at - earlier.ended_at > HOUR:
        return False
    return not is_moved(earlier.before, later.after)


def _cell(move: Move) -> tuple[int, int]:
    return math.floor(1000 * move.after["lat"]), math.floor(1000 * move.after["lon"])


def fleet_hourly(rows: Iterable[Row], now: dt.datetime = FOREVER) -> dict[tuple[dt.date, int], tuple[Any, ...]]:
    """By date and hour: the local ones, bikes at stations, outside, free bikes, outside, all; seconds known."""
    rows = counted(rows, now)
    sums: dict[int, list[int]] = defaultdict(lambda: [0] * 5)
    for part in lasting(listings(rows), Coverage.of(file_coverage(rows))):
        total = sums[part.hour]
        for number, count in enumerate((*_inside_and_outside(part.stations), *_inside_and_outside(part.bikes), 1)):
            total[number] += part.lasted * count
    return {
        (as_time(hour).date(), as_time(hour).hour): (
            *_local(as_time(hour)),
            *(value / lasted for value in values),
            sum(values) / lasted,
            lasted / SECOND,
        )
        for hour, (*values, lasted) in sums.items()
    }


def _inside_and_outside(rows: Iterable[Row]) -> tuple[int, int]:
    """Bikes at stations, or free ones."""
    counts = [0, 0]
    for row in rows:
        standing_at_station = row["bikes"] == 0 and not row["locked"] and not row.get("bikes_disabled")
        bikes = (row["bikes"] or 0) if row["record_type"] == "station" else int(not standing_at_station)
        counts["outside_service_area" in row["quality_flags"]] += bikes
    return counts[0], counts[1]


def _local(utc: dt.datetime) -> tuple[dt.date, int]:
    """Date and hour by the clocks in Warsaw."""
    local = utc.replace(tzinfo=dt.UTC).astimezone(zoneinfo.ZoneInfo("Europe/Warsaw"))
    return local.date(), local.hour


def _known(rows: list[Row], now: dt.datetime) -> Known:
    return [(began, ended) for began, ended, known in file_coverage(counted(rows, now)) if known]


def _overlap(known: Known, began: dt.datetime, ended: dt.datetime) -> float:
    """Seconds of a stretch of time that are known."""
    return sum(max((min(until, ended) - max(since, began)).total_seconds(), 0.0) for since, until in known)
