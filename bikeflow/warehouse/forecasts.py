"""The forecast of each station that is there now, and what came of the forecasts of the last weeks.

A day of a system is forecast from the eight weeks before it, and so is now: from those that end with the newest sealed
day. So everything follows from the lake alone, whenever it is made. A late file lets the days after it be scored again.

Learning takes a third of a second of CPU for 200 stations, scoring a day a second. Where many systems have new days at
once, an update does as much as fits in its time: the others are told to be pending, and go on with what they have.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa

from bikeflow.core.model import UTC, Partition
from bikeflow.forecast import DAYS_NEEDED, HORIZONS, Moment, docks_of, forecast
from bikeflow.warehouse.history import LEARNT_DAYS, History, Learnt, delete_days, unmasked
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.statements import forecasting

SCORED_DAYS = 28
"""So many days up to the newest sealed one are scored."""
_DAY = dt.timedelta(days=1)
_SHOWN = [f"{target}_{minutes}" for target in ("bike", "dock") for minutes in HORIZONS]
_SUMS = (
    "target VARCHAR, horizon_minutes INTEGER, bin INTEGER, forecasts BIGINT, probability DOUBLE, happened BIGINT,"
    " had BIGINT, kept BIGINT, squared_error DOUBLE, climatology_squared_error DOUBLE"
)
_TABLES = {
    "station_forecast": f"station_id VARCHAR, made_at TIMESTAMP, {', '.join(f'{name} DOUBLE' for name in _SHOWN)}",
    "forecast_day_bins": f"dt DATE, {_SUMS}",
    "forecast_bins": _SUMS,
    "forecast_scored_days": "dt DATE",
    "forecast_status": "days INTEGER, before_date DATE, pending INTEGER",
}
_SCORES = f"INSERT INTO state.forecast_scores {forecasting()['scores']}"
_BINS = """
INSERT INTO state.forecast_bins
SELECT system_id, target, horizon_minutes, bin, sum(COLUMNS(* EXCLUDE (system_id, dt, target, horizon_minutes, bin)))
FROM state.forecast_day_bins
WHERE system_id IN (SELECT unnest($1))
GROUP BY system_id, target, horizon_minutes, bin
"""
_KNOWN_UNTIL = "SELECT system_id, CAST(max(ended_at) AS DATE) FROM state.coverage GROUP BY system_id"
_KNOWN_NOW = """
SELECT system_id, max(ended_at)
FROM state.coverage
WHERE list_contains($1, system_id)
GROUP BY system_id
HAVING arg_max(known, ended_at)
"""
"""Until when what a system's newest snapshot says is known: for as long as polls see no change."""
_NOW = """
SELECT
    system_id,
    station_id,
    CAST(bikes AS DOUBLE) AS bikes,
    CAST(spaces AS DOUBLE) AS spaces,
    CAST(total_docks AS DOUBLE) AS total_docks,
    file_timestamp AS taken_at
FROM state.current_rows
WHERE record_type = 'station'
    AND bikes IS NOT NULL
    AND state.is_out_of_service(bikes, spaces) IS NOT TRUE
    AND list_contains($1, system_id)
"""
"""What the stations in service have now. For few systems, `list_contains` takes half the time of a join."""


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """These tables, empty."""
    for name, columns in _TABLES.items():
        connection.execute(f"CREATE TABLE state.{name} (system_id VARCHAR, {columns})")
    connection.execute(f"CREATE TABLE state.forecast_scores AS {forecasting()['scores'].replace('$1', '[]')}")


class Forecasts:
    """These tables of an open working database, kept up to date, for systems in these time `zones`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        kept: KeptFiles,
        zones: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._run = connection.execute
        self._zones = {system_id: ZoneInfo(zone) for system_id, zone in zones.items()}
        self._history = History(connection, kept, self._zones)
        self._files: dict[Partition, str] | None = None
        """The sealed days that are learnt from or scored, with their files in the mirror."""
        self._newest: dict[str, dt.date] = {}
        """The last of them, by system."""
        self._scored = {Partition(*row) for row in self._run("FROM state.forecast_scored_days").fetchall()}
        self._unscored: list[Partition] = []
        """What is still to be scored, in the order in which it will be."""
        self._learnt: dict[str, Learnt] = {}
        self._outdated: set[str] = set()
        """Systems that know of other days than they have learnt from."""
        self._stale: set[str] = set()
        """Systems of which scores have been deleted."""
        rows = self._run("SELECT system_id, days, before_date, pending FROM state.forecast_status").fetchall()
        self._status: dict[str, tuple[int, dt.date | None, int]] = {row[0]: row[1:] for row in rows}
        """On how many of the days before which one anything is known of a system, and how much is still to be done."""
        self.changes = 0
        """How often any of the tables but `station_forecast` was changed."""

    def update(
        self,
        sealed: Mapping[Partition, str],
        changed_days: AbstractSet[Partition],
        changed_systems: AbstractSet[str],
        seconds: float | None = None,
    ) -> set[str]:
        """Take over what has changed, in a transaction of the caller; gives the systems of which anything differs.

        `sealed` has the file in the mirror of each sealed partition. Of `changed_days` something else is known than
        before; `changed_systems` have other current rows or another coverage. Learning and scoring stop after
        `seconds`, and go on at the next call; with None they go on until all is done.
        """
        started = time.monotonic()
        touched = changed_systems | {name for name, status in self._status.items() if status[2]}
        if self._files is None or changed_days:
            touched = touched | self._take_days(sealed, changed_days)
        systems = sorted(touched & self._zones.keys())

        def in_time() -> bool:
            return seconds is None or time.monotonic() - started < seconds

        for system_id in systems:
            if in_time():
                self._learn(system_id)
        scored = set[str]()
        while self._unscored and in_time():
            scored.add(self._unscored[0].system_id)
            self._score(self._unscored.pop(0))
        self._sum_up(scored | self._stale)
        self._stale = set()
        if systems:
            self._forecast(systems)
            self._tell(systems)
        return set(systems)

    def _take_days(self, sealed: Mapping[Partition, str], changed: AbstractSet[Partition]) -> set[str]:
        """Note which days are sealed now; gives the systems that have others than before, or have some to be scored."""
        # a day in the future, as of a clock that was wrong, does not count
        known = {system_id: day for system_id, day in self._run(_KNOWN_UNTIL).fetchall() if system_id in self._zones}
        days = [item for item in sealed if item.system_id in known and item.day <= known[item.system_id]]
        self._newest = {item.system_id: item.day for item in sorted(days)}
        ages = {item: (self._newest[item.system_id] - item.day).days for item in days}
        if self._files is None:
            self._outdated |= self._zones.keys()
            self.changes += 1
            for table in ("station_forecast", "forecast_status", "forecast_bins", "forecast_scores"):
                self._run(f"DELETE FROM state.{table} WHERE system_id NOT IN (SELECT unnest($1))", [list(self._zones)])
        self._files = {item: sealed[item] for item, age in ages.items() if age < LEARNT_DAYS + SCORED_DAYS}
        differing = self._history.update(self._files, changed)
        wanted = {item for item in self._files if ages[item] < SCORED_DAYS}
        affected = {
            item
            for item in self._scored
            if any(Partition(item.system_id, item.day - age * _DAY) in differing for age in range(LEARNT_DAYS + 1))
        }
        stale = affected | (self._scored - wanted)
        self._stale = {item.system_id for item in stale}
        for table in ("forecast_day_bins", "forecast_scored_days"):
            delete_days(self._connection, table, stale)
        self._scored -= stale
        self._unscored = sorted(wanted - self._scored, key=lambda item: (ages[item], item.system_id))
        self._outdated |= {item.system_id for item in differing}
        return {item.system_id for item in (*differing, *stale, *self._unscored)}

    def _learn(self, system_id: str) -> None:
        newest = self._newest.get(system_id)
        if system_id in self._outdated and newest is not None:
            self._learnt[system_id] = self._history.learnt(system_id, newest + _DAY)
        elif newest is None:
            self._learnt.pop(system_id, None)
        self._outdated.discard(system_id)

    def _score(self, day: Partition) -> None:
        scored = self._history.scored(day, (self._files or {})[day])
        if scored:
            self._insert("forecast_day_bins", pa.Table.from_pylist(scored))
        self._run("INSERT INTO state.forecast_scored_days VALUES ($1, $2)", [day.system_id, day.day])
        self._scored.add(day)

    def _sum_up(self, systems: set[str]) -> None:
        """Sum up what came of the forecasts of these systems."""
        if systems:
            self.changes += 1
            for table, insert in (("forecast_bins", _BINS), ("forecast_scores", _SCORES)):
                self._run(f"DELETE FROM state.{table} WHERE system_id IN (SELECT unnest($1))", [sorted(systems)])
                self._run(insert, [sorted(systems)])

    def _forecast(self, systems: list[str]) -> None:
        """Forecast again what the systems that have learnt enough have now."""
        ready = [item for item in systems if item not in self._outdated or item in self._learnt]
        self._run("DELETE FROM state.station_forecast WHERE list_contains($1, system_id)", [ready])
        asked = [item for item in ready if item in self._learnt and self._learnt[item].days >= DAYS_NEEDED]
        found = self._run(_NOW, [asked]).fetchnumpy() if asked else {}
        if not len(found.get("system_id", ())):
            return
        keys = list(zip(found["system_id"], found["station_id"], strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        found = {name: column[order] for name, column in found.items()}
        known_until = dict(self._run(_KNOWN_NOW, [asked]).fetchall())
        chances, made_at = np.empty((len(found["system_id"]), len(_SHOWN))), found["taken_at"]
        begins = [0, *(np.flatnonzero(found["system_id"][1:] != found["system_id"][:-1]) + 1), len(chances)]
        for some in map(slice, begins[:-1], begins[1:]):
            system_id = found["system_id"][some.start]
            learnt, stations = self._learnt[system_id], found["station_id"][some]
            bikes, spaces, total_docks = (unmasked(found[name][some]) for name in ("bikes", "spaces", "total_docks"))
            docks = docks_of(bikes, spaces, total_docks, learnt.usual_docks(stations))
            at = made_at[some.start].item()
            at = max(at, known_until.get(system_id, at))
            made_at[some] = at
            moment = Moment.of(at.replace(tzinfo=UTC), self._zones[system_id])
            made = forecast(learnt.rates, stations, bikes, docks, moment)
            chances[some] = np.concatenate([made.bike, made.dock], axis=1)
        shown = {name: pa.array(column, from_pandas=True) for name, column in zip(_SHOWN, chances.T, strict=True)}
        own = {name: pa.array(found[name]) for name in ("system_id", "station_id")}
        self._insert("station_forecast", pa.table({**own, "made_at": pa.array(made_at), **shown}))

    def _tell(self, systems: list[str]) -> None:
        """Say how much is known of these systems, and what is still to be done, where that has changed."""
        unscored = Counter(item.system_id for item in self._unscored)
        for system_id in systems:
            learnt, pending = self._learnt.get(system_id), unscored[system_id] + (system_id in self._outdated)
            status = (learnt.days, learnt.before, pending) if learnt else (0, None, pending)
            if status != self._status.get(system_id):
                self.changes += 1
                self._run("DELETE FROM state.forecast_status WHERE system_id = $1", [system_id])
                self._run("INSERT INTO state.forecast_status VALUES ($1, $2, $3, $4)", [system_id, *status])
                self._status[system_id] = status

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("forecast_rows", rows)
        self._run(f"INSERT INTO state.{table} BY NAME FROM forecast_rows")
        self._connection.unregister("forecast_rows")
