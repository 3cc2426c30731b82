"""What the forecast learns from: what came and left at each station on each of the last sealed days, kept by day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np

from bikeflow.core.model import Partition
from bikeflow.forecast import DAYS_NEEDED, PLENTY, QUARTERS, Flows, Rates, climatology, docks_of, learn, rows, score_day
from bikeflow.warehouse.days import show_log
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.statements import forecasting, quoted

LEARNT_DAYS = 56
"""A day is forecast from so many days before it."""
TARGETS = ("bike", "dock")
_DAY = dt.timedelta(days=1)
_BATCH = 32
"""So many days are read at a time."""
_FLOWS = """
SELECT
    station_id AS station,
    CAST(weekday AS BIGINT) AS weekday,
    CAST(hour AS BIGINT) AS hour,
    CAST(bikes AS BIGINT) AS bikes,
    CAST(spaces AS BIGINT) AS spaces,
    sum(departures) AS departures,
    sum(arrivals) AS arrivals,
    sum(seconds) AS seconds
FROM state.forecast_flows
WHERE system_id = $1 AND dt >= $2 AND dt < $3
GROUP BY ALL
"""
_DAYS = """
SELECT count(DISTINCT dt) FROM state.forecast_flows WHERE system_id = $1 AND dt >= $2 AND dt < $3 AND seconds > 0
"""
_DOCKS = """
SELECT station_id, CAST(quantile_disc(docks, 0.5) AS DOUBLE)
FROM state.station_days
WHERE system_id = $1 AND dt >= $2 AND dt < $3 AND docks IS NOT NULL
GROUP BY station_id
"""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is known of a system before a day: on how many days anything was known, the rates, and the usual docks."""

    before: dt.date
    days: int
    rates: Rates
    docks: Mapping[str, float]

    def usual_docks(self, stations: Iterable[str]) -> Any:
        """The docks that the stations seemed to have (an array); NaN where that is unknown."""
        return np.array([self.docks.get(station, np.nan) for station in stations], dtype=np.float64)


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables `forecast_flows` and `forecast_days`, empty."""
    connection.execute(
        "CREATE TABLE state.forecast_flows (system_id VARCHAR, dt DATE, station_id VARCHAR, weekday TINYINT,"
        " hour TINYINT, bikes TINYINT, spaces TINYINT, departures DOUBLE, arrivals DOUBLE, seconds DOUBLE)"
    )
    connection.execute("CREATE TABLE state.forecast_days (system_id VARCHAR, dt DATE)")


class History:
    """The tables `forecast_flows` and `forecast_days` (those that are in it) of an open working database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, kept: KeptFiles, zones: Mapping[str, ZoneInfo]) -> None:
        self._connection = connection
        self._run = connection.execute
        self._kept = kept
        self._zones = zones
        self._known = {Partition(*row) for row in self._run("FROM state.forecast_days").fetchall()}

    def update(self, files: Mapping[Partition, str], changed: AbstractSet[Partition]) -> set[Partition]:
        """Learn from these sealed days and no others; gives those that were read, again or for the first time.

        They have these files in the mirror; the `changed` ones are read again.
        """
        old = {item for item in self._known if item in changed or item not in files}
        new = files.keys() - (self._known - old)
        for table in ("forecast_flows", "forecast_days"):
            delete_days(self._connection, table, old)
        for system_id, days in groupby(sorted(new), key=lambda item: item.system_id):
            while some := list(islice(days, _BATCH)):
                self._read(system_id, {item: files[item] for item in some})
        self._known = (self._known - old) | new
        return (old & changed) | new

    def learnt(self, system_id: str, before: dt.date) -> Learnt:
        """What the days before this one teach."""
        flows, days = self._flows(system_id, before)
        return Learnt(before, days, learn(flows), self._docks(system_id, before))

    def scored(self, day: Partition, file: str) -> list[dict[str, object]]:
        """What came of the forecasts of a sealed day (of this file in the mirror), as rows of `forecast_day_bins`."""
        flows, days = self._flows(day.system_id, day.day)
        if days < DAYS_NEEDED:
            return []
        learnt = Learnt(day.day, days, learn(flows), self._docks(day.system_id, day.day))
        self._show(day.system_id, {day: file})
        found = self._run(self._query("quarters", day.system_id)).fetchnumpy()
        stations, place = np.unique(found["station_id"], return_inverse=True)
        bikes, spaces, total_docks = np.full((3, QUARTERS, len(stations)), np.nan)
        for numbers, name in ((bikes, "bikes"), (spaces, "spaces"), (total_docks, "total_docks")):
            numbers[found["quarter"], place] = unmasked(found[name])
        docks = docks_of(bikes, spaces, total_docks, learnt.usual_docks(stations))
        zone = self._zones[day.system_id]
        sums = score_day(learnt.rates, climatology(flows), day.day, zone, stations, bikes, docks)
        own = {"system_id": day.system_id, "dt": day.day}
        return [{**own, "target": name, **row} for name, of in zip(TARGETS, sums, strict=True) for row in rows(of)]

    def _flows(self, system_id: str, before: dt.date) -> tuple[Flows, int]:
        """What is learnt from, and on how many days anything was known."""
        span = [system_id, before - LEARNT_DAYS * _DAY, before]
        ((days,),) = self._run(_DAYS, span).fetchall()
        return Flows(**self._run(_FLOWS, span).fetchnumpy()), int(days)

    def _docks(self, system_id: str, before: dt.date) -> dict[str, float]:
        return dict(self._run(_DOCKS, [system_id, before - LEARNT_DAYS * _DAY, before]).fetchall())

    def _read(self, system_id: str, files: Mapping[Partition, str]) -> None:
        self._show(system_id, files)
        query = self._query("flows", system_id)
        self._run(f"INSERT INTO state.forecast_flows BY NAME SELECT {quoted(system_id)} AS system_id, * FROM ({query})")
        self._run("INSERT INTO state.forecast_days SELECT $1, unnest($2)", [system_id, [item.day for item in files]])

    def _show(self, system_id: str, files: Mapping[Partition, str]) -> None:
        """Let there be the relations that the queries read: of these days of a system."""
        show_log(self._connection, self._kept, files)
        first, last = min(files).day, max(files).day + _DAY
        self._run(
            "CREATE OR REPLACE TEMP VIEW forecast_coverage AS FROM working.state.coverage"
            f" WHERE system_id = {quoted(system_id)} AND ended_at >= DATE '{first}' AND began_at <= DATE '{last}'"
        )

    def _query(self, name: str, system_id: str) -> str:
        zone = quoted(str(self._zones[system_id]))
        return forecasting()[name].replace("$zone", zone).replace("$plenty", str(PLENTY))


def delete_days(connection: duckdb.DuckDBPyConnection, table: str, days: Collection[Partition]) -> None:
    """Delete the rows of these days."""
    if days:
        keys = [[item.system_id for item in days], [item.day for item in days]]
        sql = f"DELETE FROM state.{table} WHERE (system_id, dt) IN (SELECT (unnest($1), unnest($2)))"
        connection.execute(sql, keys)


def unmasked(numbers: Any) -> Any:
    """Numbers of a query as an array of floats; null is NaN."""
    return np.ma.filled(numbers, np.nan)
