"""A recording of a feed as arrays, read by itself: it knows no more of bikeflow than what the forecast learns from."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from bikeflow.forecast import PLENTY, Flows, Moment, docks_of
from bikeflow.forecast.flows import Bools, Floats, Ints, Names, sums

DAY = 86_400
Status = dict[str, tuple[float, float, float]]
"""Bikes, spaces and docks by station; NaN is unknown."""


@dataclass(frozen=True)
class Recording:
    """States of stations (times, stations); `times` are seconds since 1970, NaN is unknown."""

    zone: ZoneInfo
    times: Ints
    stations: Names
    bikes: Floats
    spaces: Floats
    total_docks: Floats
    usual: dict[int, Floats] = field(default_factory=dict)

    @cached_property
    def full(self) -> Bools:
        """Whether no bike can be returned."""
        no_space = (self.spaces <= 0) | ((self.total_docks > 0) & (self.bikes >= self.total_docks))
        return (self.bikes > 0) & no_space

    @cached_property
    def room(self) -> Ints:
        """Spaces as flows count them."""
        docks = np.where(self.total_docks > 0, self.total_docks, np.nan)
        spaces = np.nan_to_num(np.fmin(docks - self.bikes, self.spaces), nan=PLENTY)
        return np.where(self.full, 0, np.clip(spaces, 1, PLENTY)).astype(np.int64)

    @cached_property
    def holds(self) -> float:
        """How many seconds a state counts as known without a new one."""
        return 3 * float(np.median(np.diff(self.times)))

    def at(self, second: int) -> int | None:
        """The index of the state that holds at a time."""
        found = int(np.searchsorted(self.times, second, "right")) - 1
        return found if found >= 0 and second - self.times[found] < self.holds else None

    def flows(self, begin: int) -> Flows:
        """What the day (UTC) that begins at `begin` shows."""
        first, last = np.searchsorted(self.times, [begin, begin + DAY])
        last = min(last, len(self.times) - 1)
        lengths = np.diff(self.times[first : last + 1])
        before, after = self.bikes[first:last], self.bikes[first + 1 : last + 1]
        known = ~(np.isnan(before) | np.isnan(after)) & (lengths < self.holds)[:, np.newaxis]
        hours = [self.moment(int(second)) for second in self.times[first:last]]
        week = np.array([(moment.weekday - 1) * 24 + moment.hour for moment in hours], dtype=np.int64)
        shape = (len(self.stations), 7 * 24, PLENTY + 1, PLENTY + 1)
        interval, station = np.nonzero(known)
        bikes = np.clip(before, 0, PLENTY)[known].astype(np.int64)
        spaces = self.room[first:last][known]
        place = np.ravel_multi_index((station, week[interval], bikes, spaces), shape)
        change = (after - before)[known]
        tables = [
            sums(place, values, shape)
            for values in (np.maximum(-change, 0), np.maximum(change, 0), lengths[interval].astype(np.float64))
        ]
        station, hour, bikes, spaces = np.nonzero(tables[2])
        columns = [table[station, hour, bikes, spaces] for table in tables]
        return Flows(self.stations[station], hour // 24 + 1, hour % 24, bikes, spaces, *columns)

    def docks(self, now: int, begin: int) -> Floats:
        """With how many bikes stations count as full; what is usual are the days before `begin`."""
        return docks_of(self.bikes[now], self.spaces[now], self.total_docks[now], self._usual_docks(begin))

    def _usual_docks(self, begin: int) -> Floats:
        if begin not in self.usual:
            before = slice(0, int(np.searchsorted(self.times, begin)))
            seen = np.where(self.spaces[before] > 0, self.bikes[before] + self.spaces[before], np.nan)
            known = [values[~np.isnan(values)] for values in seen.T]
            self.usual[begin] = np.array([np.median(values) if len(values) else np.nan for values in known])
        return self.usual[begin]

    def moment(self, second: int) -> Moment:
        return Moment.of(dt.datetime.fromtimestamp(second, dt.UTC), self.zone)


def read(folder: Path, zone: ZoneInfo) -> Recording:
    """The recording in a folder, in the order of time."""
    read_one, paths = _read_wrm, sorted(folder.rglob("wrm_stations_*.txt"))
    if not paths:
        read_one, paths = _read_gbfs, sorted(folder.rglob("*.json"))
    found = {second: status for second, status in map(read_one, paths) if status}
    times = sorted(found)
    stations = sorted({name for status in found.values() for name in status})
    where = {name: i for i, name in enumerate(stations)}
    values = np.full((len(times), len(stations), 3), np.nan, dtype=np.float32)
    for i, second in enumerate(times):
        status = found.pop(second)
        values[i, [where[name] for name in status]] = list(status.values())
    bikes, spaces, total = (values[..., i].astype(np.float64) for i in range(3))
    bikes[(bikes == 0) & (spaces == 0)] = np.nan  # out of service
    return Recording(zone, np.array(times), np.array(stations), bikes, spaces, total)


def _read_wrm(path: Path) -> tuple[int, Status]:
    at = dt.datetime.strptime(path.stem, "wrm_stations_%Y-%m-%d_%H-%M-%S").replace(tzinfo=dt.UTC)
    status = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith("fb"):
            fields = line.rsplit(",", 8)
            status[line.partition(",")[0]] = (float(fields[1]), float(fields[2]), float(fields[6]))
    return int(at.timestamp()), status


def _read_gbfs(path: Path) -> tuple[int, Status]:
    try:
        document = json.loads(path.read_bytes())
        stations = document["data"]["stations"]
        second = int(document["last_updated"])
    except (KeyError, TypeError, ValueError):
        return 0, {}
    known = [one for one in stations if "num_bikes_available" in one]
    unknown = float("nan")
    return second, {
        one["station_id"]: (one["num_bikes_available"], one.get("num_docks_available", unknown), unknown)
        for one in known
    }
