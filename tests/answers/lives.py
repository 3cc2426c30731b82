"""Small systems whose polls, raw files and faults are drawn by chance: all that the tables must be right about."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.answers.histories import packed
from tests.answers.lake import Lake
from tests.support.lines import PACKED, bike, raw_file

STATIONS = ("101", "102", "103", "104")
DOCKS = 4
GAPS = [dt.timedelta(minutes=50), dt.timedelta(hours=5), dt.timedelta(hours=30), dt.timedelta(days=3)]
QUIET = [dt.timedelta(hours=2), dt.timedelta(hours=9), dt.timedelta(hours=30), dt.timedelta(hours=55)]
"""For so long nothing changes, now and then."""
Counts = dict[str, tuple[int | None, int | None]]
"""Bikes and spaces by station."""


class RandomLife:
    """A system of four stations, and whatever happens to it from `now` on, in a lake; intervals are in seconds."""

    def __init__(
        self, lake: Lake, chance: Random, now: dt.datetime, intervals: Sequence[int] = (300, 600, 900)
    ) -> None:
        self.lake = lake
        self.now = now
        self._chance = chance
        self._intervals = intervals
        self._interval_seconds = chance.choice(intervals)
        self._bikes = {station: chance.randrange(DOCKS + 2) for station in STATIONS}
        self._closed: set[str] = set()
        self._former: Counts = {}
        self._recorded = False

    def live(self, steps: int) -> None:
        """Let so many things happen; polls are recorded after a while only."""
        for number in range(steps):
            self._recorded = self._recorded or number > steps // 4
            self._happen()

    def _happen(self) -> None:
        match self._chance.randrange(16):
            case 0:
                self._gap()
            case 1:
                self._of_others()
            case 2:
                self._overwrite()
            case 3:
                self._quiet()
            case 4:
                self._closed ^= {self._chance.choice(STATIONS)}
            case 5:
                self._interval_seconds = self._chance.choice(self._intervals)
            case _:
                for _ in range(self._chance.randrange(1, 12)):
                    self._poll()
                    self._next()

    def _next(self) -> None:
        self.now += dt.timedelta(seconds=self._interval_seconds)

    def _gap(self) -> None:
        """bikeflow does not run for a while; the next start records what was missed, if it is a good day.

        Or it runs, and the record of its polls is lost.
        """
        until = self.now + self._chance.choices(GAPS, [8, 4, 2, 1])[0]
        if self._chance.random() < 0.3:
            self._record("unrecorded")
            for number in range(self._chance.randrange(6)):
                at = self.now + dt.timedelta(seconds=1 + number * self._interval_seconds)
                self.lake.put(self.lake.key(at), self._data(self._counts(), at))
        elif self._chance.random() < 0.7:
            self._record("missed")
        self.now = until.replace(second=self._chance.randrange(60))

    def _quiet(self) -> None:
        """Nothing changes for a while, or the feed does not answer."""
        bad = self._chance.choice(["failed", "not_a_feed", "lost", "skipped"])
        outcome, duration = self._chance.choice([("unchanged", self._chance.choice(QUIET)), (bad, QUIET[0])])
        for _ in range(int(duration.total_seconds() // self._interval_seconds)):
            self._record(outcome)
            self._next()

    def _poll(self) -> None:
        counts = self._counts()
        if counts == self._former:
            self._record("unchanged")
            return
        self._former = counts
        self.lake.put(self.lake.key(self.now), self._data(counts, self.now))
        self._record("stored")

    def _record(self, outcome: Any) -> None:
        if self._recorded:
            self.lake.poll(self.now, outcome, self._interval_seconds)

    def _of_others(self) -> None:
        """Somebody else's file: of a second that already has one, of another time, or in a wrong folder."""
        at = self.now - dt.timedelta(seconds=self._chance.randrange(20_000))
        if self._chance.random() < 0.1:
            at = at.replace(year=2199)
        name = f"{self._chance.choice('ax')}{self._chance.randrange(99)}"
        if self.lake.raw_files and self._chance.random() < 0.5:
            at = self._chance.choice(self.lake.read).time.replace(tzinfo=dt.UTC)
        if self._chance.random() < 0.3:
            self.lake.put(self.lake.key(at, at.date() - dt.timedelta(days=1)), self._data(self._counts(), at))
        else:
            self.lake.put(self.lake.key(at, name=name), self._data(self._counts(), at), modified=at)

    def _overwrite(self) -> None:
        """A file is written again, with other counts."""
        keys = [key for key in sorted(self.lake.raw_files) if "_" in key.rsplit("/", 1)[1]][-30:]
        if keys:
            self.lake.put(self._chance.choice(keys), self._data(self._counts(), self.now))

    def _counts(self) -> Counts:
        """What a snapshot says: stations may be absent, unknown or all gone."""
        for station in STATIONS:
            step = self._chance.choice([-1, -1, 1, 1, 2, -2, *8 * [0]])
            self._bikes[station] = min(max(self._bikes[station] + step, 0), DOCKS + 2)
        if self._chance.random() < 0.03:
            return {}
        return {
            station: self._state(bikes)
            for station, bikes in self._bikes.items()
            if station not in self._closed and self._chance.random() < 0.97
        }

    def _state(self, bikes: int) -> tuple[int | None, int | None]:
        """Bikes and spaces: unknown, none of both for a while, or no room though docks are free."""
        if self._chance.random() < 0.03:
            return 0, 0
        return self._maybe(bikes), self._maybe(max(DOCKS - bikes, self._chance.choice([0, 0, 1])))

    def _maybe(self, count: int) -> int | None:
        return None if self.lake.format == "gbfs" and self._chance.random() < 0.03 else count

    def _data(self, counts: Counts, at: dt.datetime) -> bytes:
        twice = self._chance.random() < 0.05
        return (self._wrm if self.lake.format == "wrm" else self._gbfs)(counts, at, twice=twice)

    def _wrm(self, counts: Counts, at: dt.datetime, *, twice: bool) -> bytes:
        out = io.StringIO()
        for station, (bikes, spaces) in [*counts.items(), *list(counts.items())[: int(twice)]]:
            line = [
                station,
                PACKED,
                f"Plac {station}",
                51.1,
                17.0,
                bikes,
                spaces,
                "true",
                "false",
                "false",
                DOCKS,
                "",
                0,
            ]
            csv.writer(out, lineterminator="\n").writerow(line)
        count = self._chance.randrange(1, 4) if counts or self._chance.random() < 0.5 else 0
        free = [bike(number, lat=self._chance.choice(["51.1", "51.2", "52.2"])) for number in range(count)]
        return raw_file(*out.getvalue().splitlines(), *free).encode()

    def _gbfs(self, counts: Counts, at: dt.datetime, *, twice: bool) -> bytes:
        stations = [
            {"station_id": station, "num_bikes_available": bikes, "num_docks_available": spaces}
            for station, (bikes, spaces) in counts.items()
        ]
        stations += [dict(one, num_bikes_available=0) for one in stations[: int(twice)]]
        about = [{"station_id": station, "name": f"Plac {station}", "lat": 51.1, "lon": 17.0} for station in STATIONS]
        about[0]["capacity"] = DOCKS
        vehicle = {"bike_id": "v1", "lat": 51.1, "lon": 17.0, "is_reserved": False, "is_disabled": False}
        arrays = {"station_status": ("stations", stations), "station_information": ("stations", about),
                  "free_bike_status": ("bikes", [vehicle] * (self._chance.random() < 0.9))}  # fmt: skip
        bodies = {
            name: json.dumps({"last_updated": round(at.timestamp()), "ttl": 60, "data": {key: items}}).encode()
            for name, (key, items) in arrays.items()
        }
        return packed(bodies, at)
