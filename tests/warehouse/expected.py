"""What the published tables must hold, by plain Python over rows (or the raw text): it shares no code with them."""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

Row = dict[str, Any]
CAP_SECONDS = 1800.0
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


def data_quality(rows: Iterable[Row]) -> dict[dt.date, tuple[Any, ...]]:
    """By day: rows, of stations, of bikes, with each flag; snapshots, first, last, longest gap in seconds."""
    days = defaultdict(list)
    for row in rows:
        days[row["date"]].append(row)
    return {day: _quality(found) for day, found in days.items()}


def _quality(rows: list[Row]) -> tuple[Any, ...]:
    times = sorted(time for time, _ in {(row["file_timestamp"], row["s3_source_key"]) for row in rows})
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    return (
        len(rows),
        len(stations(rows)),
        sum(row["record_type"] == "bike" for row in rows),
        *(sum(flag in row["quality_flags"] for row in rows) for flag in FLAGS),
        len(times),
        times[0],
        times[-1],
        max(gaps, default=None),
    )


def stations(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["record_type"] == "station"]


def station_hourly(rows: Iterable[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """By station, date and hour: observations, mean, least and most bikes, the same of spaces."""
    groups = defaultdict(list)
    for row in stations(rows):
        groups[row["station_id"], row["date"], row["file_timestamp"].hour].append((row["bikes"], row["spaces"]))
    return {
        key: (len(seen), *_extent([b for b, _ in seen]), *_extent([s for _, s in seen])) for key, seen in groups.items()
    }


def station_summary(rows: Iterable[Row]) -> dict[str, tuple[Any, ...]]:
    """By station: observations, first, last, bikes (mean, least, most), occupancy, shares empty and full, seconds."""
    groups = defaultdict(list)
    for row in stations(rows):
        groups[row["station_id"]].append(row)
    return {station: _summary(seen) for station, seen in groups.items()}


def _summary(seen: list[Row]) -> tuple[Any, ...]:
    seen.sort(key=lambda row: (row["date"], row["file_timestamp"], row["s3_source_key"]))
    observed = empty = full = 0.0
    for row, following in pairwise(seen):
        gap = (following["file_timestamp"] - row["file_timestamp"]).total_seconds()
        lasted = min(max(gap, 0.0), CAP_SECONDS)
        observed += lasted
        empty += lasted * (row["bikes"] == 0)
        full += lasted * (row["spaces"] == 0)
    occupancies = [row["bikes"] / (row["bikes"] + row["spaces"]) for row in seen if row["bikes"] + row["spaces"] > 0]
    return (
        len(seen),
        seen[0]["file_timestamp"],
        seen[-1]["file_timestamp"],
        *_extent([row["bikes"] for row in seen]),
        fmean(occupancies) if occupancies else None,
        empty / observed if observed else None,
        full / observed if observed else None,
        observed,
    )


def _extent(values: Any) -> tuple[float, int, int]:
    return fmean(values), min(values), max(values)


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
    rows = list(rows)
    newest = max(((row["file_timestamp"], row["s3_source_key"]) for row in rows), default=None)
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        inside = BOX[0] <= row["lat"] <= BOX[1] and BOX[2] <= row["lon"] <= BOX[3]
        if (row["file_timestamp"], row["s3_source_key"]) == newest and inside and row["record_type"] != "unknown":
            cells[cell_id(row["lat"], row["lon"])].append(row)
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


def station_density_hourly(rows: Iterable[Row]) -> dict[tuple[Any, ...], tuple[float, float]]:
    """By cell, date and hour: all bikes and free bikes within the service area, in the mean of the hour's snapshots."""
    hours: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        hours[row["date"], row["file_timestamp"].hour].append(row)
    found: dict[tuple[Any, ...], tuple[float, float]] = {}
    for hour, seen in hours.items():
        snapshots = len({(row["file_timestamp"], row["s3_source_key"]) for row in seen})
        for row in seen:
            if row["record_type"] != "unknown" and "outside_service_area" not in row["quality_flags"]:
                key = (cell_id(row["lat"], row["lon"]), *hour)
                bikes, free = found.get(key, (0.0, 0.0))
                found[key] = bikes + row["bikes"] / snapshots, free + (row["record_type"] == "bike") / snapshots
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
