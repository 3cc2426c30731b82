"""What the published tables must hold, by plain Python over rows (or the raw text): it shares no code with them."""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tests.answers import figures, places, reference

Row = dict[str, Any]
CAP_SECONDS = 1800.0
FOREVER = dt.datetime(9999, 1, 1)  # noqa: DTZ001 - naive UTC, as in the tables
EPOCH = dt.datetime.fromtimestamp(0, dt.UTC).replace(tzinfo=None)
FLAGS = ("outside_service_area", "over_capacity", "future_timestamp", "stale_timestamp")
BOX = (51.00, 51.25, 16.75, 17.25)


def raw_rows(path: Path, key: str) -> list[Row]:
    """The lines of a raw file, none of which is bad."""
    time = dt.datetime.strptime(f"{path.stem} +0000", "wrm_stations_%Y-%m-%d_%H-%M-%S %z").replace(tzinfo=None)
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
        for station_id, packed, *fields in lines:
            row: Row = dict(zip(header[2:], fields, strict=True))
            row |= {name: int(row[name]) for name in ("bikes", "spaces", "total_docks")}
            row |= {name: float(row[name]) for name in ("lat", "lon")}
            seen = EPOCH + dt.timedelta(microseconds=round(float(packed.split("|")[0]) * 1_000_000))
            row |= {"station_id": station_id, "timestamp": seen, "file_timestamp": time, "date": time.date()}
            kind = "bike" if station_id.startswith("fb") else "station" if station_id.isdecimal() else "unknown"
            rows.append({**row, "s3_source_key": key, "record_type": kind, "quality_flags": _flags(row)})
    return rows


def _flags(row: Row) -> list[str]:
    late = (row["timestamp"] - row["file_timestamp"]).total_seconds()
    odd = {
        "outside_service_area": not (BOX[0] <= row["lat"] <= BOX[1] and BOX[2] <= row["lon"] <= BOX[3]),
        "over_capacity": row["bikes"] > row["total_docks"],
        "future_timestamp": late > 300,
        "stale_timestamp": late < -86_400,
    }
    return [flag for flag, present in odd.items() if present]


def is_empty(row: Row) -> bool:
    return bool(row["bikes"] == 0 and row["spaces"] > 0)


def is_full(row: Row) -> bool:
    return bool(row["bikes"] > 0 and (row["spaces"] == 0 or 0 < row["total_docks"] <= row["bikes"]))


def counted(rows: Iterable[Row], now: dt.datetime = FOREVER) -> list[Row]:
    """The rows of snapshots that are not dated in the future."""
    return [row for row in rows if row["file_timestamp"] <= now]


def newest(rows: Iterable[Row]) -> list[Row]:
    """All rows of the newest snapshot; its stations are those of the newest one that has any."""
    rows = list(rows)
    last = max((_snapshot(row) for row in rows), default=None)
    told = max((_snapshot(row) for row in stations(rows)), default=None)
    return [row for row in rows if _snapshot(row) == (told if row["record_type"] == "station" else last)]


def _snapshot(row: Row) -> tuple[dt.datetime, str]:
    return row["file_timestamp"], row["s3_source_key"]


def data_quality(rows: Iterable[Row], now: dt.datetime = FOREVER) -> dict[dt.date, tuple[Any, ...]]:
    """By day: rows, of stations, of bikes, with each flag; snapshots (and later than now), first, last, longest gap."""
    days = defaultdict(list)
    for row in rows:
        days[row["date"]].append(row)
    covered = file_coverage(counted((row for found in days.values() for row in found), now))
    gaps: dict[dt.date, list[float]] = {}
    for began, ended, known in covered:
        if began == ended:
            continue
        for number in range((ended - dt.timedelta(microseconds=1)).toordinal() - began.toordinal() + 1):
            day = began.date() + dt.timedelta(days=number)
            gaps.setdefault(day, []).append(0.0 if known else (ended - began).total_seconds())
    return {day: (*_quality(days[day], now), max(gaps.get(day, ()), default=None)) for day in {*days, *gaps}}


def file_coverage(rows: Iterable[Row]) -> list[tuple[dt.datetime, dt.datetime, bool]]:
    """When the state is known from raw files, and when not: from, until, and which."""
    partitions: dict[dt.date, set[tuple[dt.datetime, str]]] = defaultdict(set)
    for row in rows:
        partitions[row["date"]].add(_snapshot(row))
    held = []
    for snapshots in partitions.values():
        times = sorted(time for time, _ in snapshots)
        steps = [(after - before).total_seconds() for before, after in pairwise(times) if after > before]
        hold = dt.timedelta(seconds=min(2 * median(steps), CAP_SECONDS) if steps else CAP_SECONDS)
        held += [(time, time + hold) for time in times]
    if not held:
        return []
    held.sort()
    newest_time, (since, until) = held[-1][0], held[0]
    found = []
    for began, ended in held:
        if began > until:
            found += [(since, until, True), (until, began, False)]
            since = began
        until = max(until, ended)
    found.append((since, until, True))
    return [(began, min(ended, newest_time), known) for began, ended, known in found]


Interval = tuple[dt.datetime, dt.datetime, bool, str | None, str]
GOOD = {"stored", "unchanged", "not_modified"}


def coverage(polls: Iterable[Row], rows: Iterable[Row]) -> list[Interval]:
    """From, until, whether the state is known, why not, and who tells, by polls and by rows of raw files."""
    events = sorted(((_told_at(poll), poll["due_at"], poll) for poll in polls), key=lambda event: event[:2])
    told, silent = _told_by_polls(events)
    first, last = (events[0][0], events[-1][0]) if events else (FOREVER, FOREVER)
    known = [(began, ended) for began, ended, is_known in file_coverage(rows) if is_known]
    for since, until in [(dt.datetime.min, first), (last, FOREVER), *silent]:  # noqa: DTZ901
        told += [
            (max(began, since), min(ended, until), True, None, "raw files")
            for began, ended in known
            if began < until and ended > since
        ]
    told.sort()
    holes = [(before[1], after[0]) for before, after in pairwise(told) if before[1] < after[0]]
    found: list[Interval] = []
    for interval in sorted([*told, *((*hole, False, "no_snapshot", "raw files") for hole in holes)]):
        if interval[0] == interval[1]:
            continue
        if found and found[-1][2:] == interval[2:]:
            interval = (found.pop()[0], *interval[1:])  # noqa: PLW2901
        found.append(interval)
    return found


def _told_by_polls(
    events: list[tuple[dt.datetime, dt.datetime, Row]],
) -> tuple[list[Interval], list[tuple[dt.datetime, dt.datetime]]]:
    """What polls tell, and when their record is lost."""
    told: list[Interval] = []
    silent = []
    for (began, _, poll), (ended, *_) in pairwise(events):
        if poll["outcome"] in GOOD:
            known_until = min(ended, began + dt.timedelta(seconds=2 * poll["interval_seconds"]))
            told += [(began, known_until, True, None, "polls"), (known_until, ended, False, "late", "polls")]
        elif poll["outcome"] == "unrecorded":
            silent.append((began, ended))
        else:
            reason = ": ".join(filter(None, (poll["outcome"], poll["reason"])))
            told.append((began, ended, False, reason, "polls"))
    return told, silent


def _told_at(poll: Row) -> dt.datetime:
    """When a poll's answer came (whole seconds), or when it was due."""
    time: dt.datetime = poll["due_at"]
    if poll["outcome"] in GOOD:
        time = (poll["finished_at"] or time).replace(microsecond=0)
    return time


def _quality(rows: list[Row], now: dt.datetime) -> tuple[Any, ...]:
    times = sorted(time for time, _ in {_snapshot(row) for row in counted(rows, now)})
    return (
        len(rows),
        len(stations(rows)),
        sum(row["record_type"] == "bike" for row in rows),
        *(sum(flag in row["quality_flags"] for row in rows) for flag in FLAGS),
        len(times),
        len({_snapshot(row) for row in rows}) - len(times),
        times[0] if times else None,
        times[-1] if times else None,
    )


def stations(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["record_type"] == "station"]


def life(rows: Iterable[Row], coverage: Iterable[tuple[dt.datetime, dt.datetime, bool]]) -> reference.Life:
    """What is known of the stations, by their rows and by coverage."""
    states: dict[tuple[str, dt.date, dt.datetime], dict[str, reference.State]] = defaultdict(dict)
    for row in stations(rows):
        state = reference.State(row["bikes"], row["spaces"], row["total_docks"])
        states[row["s3_source_key"], row["date"], row["file_timestamp"]][row["station_id"]] = state
    snapshots = [
        reference.Snapshot(key, date, reference.microseconds(time), some) for (key, date, time), some in states.items()
    ]
    return reference.lived(snapshots, reference.Coverage.of(coverage), "Europe/Warsaw")


def station_summary(rows: Iterable[Row], known: reference.Life) -> dict[str, tuple[Any, ...]]:
    """By station: what it is, observations, first, last, bikes (mean, least, most), occupancy, shares, seconds."""
    groups = defaultdict(list)
    for row in stations(rows):
        groups[row["station_id"]].append(row)
    told = figures.station_summary(known)
    return {station: _summary(seen, told.get(station, {})) for station, seen in groups.items()}


def _summary(seen: list[Row], known: Mapping[str, object]) -> tuple[Any, ...]:
    last = max(seen, key=lambda row: (row["file_timestamp"], row["date"], row["s3_source_key"]))
    return (
        *(last[name] for name in ("name", "lat", "lon", "total_docks")),
        len(seen),
        min(row["file_timestamp"] for row in seen),
        last["file_timestamp"],
        _figure(known.get("mean_bikes")),
        min(row["bikes"] for row in seen),
        max(row["bikes"] for row in seen),
        *(_figure(known.get(name)) for name in ("mean_occupancy", "share_empty", "share_full")),
        _figure(known.get("known_seconds", 0)),
    )


def _figure(value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value


def publication(rows: Iterable[Row], now: dt.datetime = FOREVER) -> tuple[Any, ...]:
    """Newest snapshot, how many are later, rows; stations inside, outside, empty, full; bikes inside, outside."""
    rows = list(rows)
    seen = newest(counted(rows, now))
    outside = [row for row in seen if "outside_service_area" in row["quality_flags"]]
    inside = [row for row in seen if row not in outside]
    return (
        max((row["file_timestamp"] for row in seen), default=None),
        len({_snapshot(row) for row in rows} - {_snapshot(row) for row in counted(rows, now)}),
        len(rows),
        len(stations(inside)),
        len(stations(outside)),
        sum(map(is_empty, stations(inside))),
        sum(map(is_full, stations(inside))),
        sum(row["record_type"] == "bike" for row in inside),
        sum(row["record_type"] == "bike" for row in outside),
    )


def same(found: Any, wanted: Any) -> bool:
    """Equal, but for the last digits of what is not whole."""
    if isinstance(found, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in found)
    if isinstance(found, tuple | list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float | int):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == wanted)


def bike_density(rows: Iterable[Row]) -> dict[str, tuple[Any, ...]]:
    """By cell: bikes, stations and free bikes of the newest snapshot within the service area, and its stations' ids."""
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in newest(rows):
        inside = BOX[0] <= row["lat"] <= BOX[1] and BOX[2] <= row["lon"] <= BOX[3]
        if inside and row["record_type"] != "unknown":
            cells[places.cell_id(row["lat"], row["lon"])].append(row)
    return {
        cell: (
            sum(row["bikes"] for row in found),
            len(stations(found)),
            len(found) - len(stations(found)),
            float(sum(row["bikes"] for row in found)),
            sorted(row["station_id"] for row in stations(found)),
        )
        for cell, found in cells.items()
    }


def listings(rows: Iterable[Row]) -> list[places.Listing[Row]]:
    """The rows of stations and free bikes, by raw file."""
    files: dict[tuple[str, dt.date, dt.datetime], list[Row]] = defaultdict(list)
    for row in rows:
        files[row["s3_source_key"], row["date"], row["file_timestamp"]].append(row)
    return [
        places.Listing(
            key,
            date,
            reference.microseconds(time),
            stations(found),
            [row for row in found if row["record_type"] == "bike"],
        )
        for (key, date, time), found in files.items()
    ]


def station_density_hourly(
    rows: Iterable[Row], coverage: Iterable[tuple[dt.datetime, dt.datetime, bool]]
) -> dict[tuple[str, int], dict[str, object]]:
    """By cell and hour: all bikes and free bikes inside the service area, in the mean of the hour's known time."""
    standing = [
        places.Listing(one.key, one.folder, one.at, _standing(one.stations), _standing(one.bikes))
        for one in listings(rows)
    ]
    return places.station_density_hourly(standing, reference.Coverage.of(coverage), "Europe/Warsaw")


def _standing(rows: Iterable[Row]) -> list[places.Standing]:
    return [
        places.Standing(row["lat"], row["lon"], row["bikes"] or 0, "outside_service_area" not in row["quality_flags"])
        for row in rows
    ]
