"""The published database as the API reads it: read-only, never in the way of a refresh, and no oftener than it changes.

Everything here blocks; the server calls it in a thread of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from bikeflow.core.errors import Transient
from bikeflow.http.map import Hours, Latest, Row, map_document
from bikeflow.warehouse.statements import COMPATIBLE, quoted

Value = TypeVar("Value")
Freshness = Callable[[dt.datetime | None], Row]
"""Whether a snapshot of this time is the city as it is now (`bikeflow.health.freshness`)."""

HISTORY_SECONDS = 60.0
_CONFIG: Mapping[str, str | int | bool] = {
    "threads": 1,
    "memory_limit": "256MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


class Costly(Generic[Value]):
    """A value that is computed anew when asked for, but for no more than a twentieth of all time."""

    def __init__(self, compute: Callable[[], Value], min_seconds: float = 0.0) -> None:
        self._compute = compute
        self._min_seconds = min_seconds
        self._value: Value | None = None
        self._due = 0.0

    def get(self) -> Value:
        """The value, a little old perhaps."""
        started = time.monotonic()
        if self._value is None or started >= self._due:
            self._value = self._compute()
            ended = time.monotonic()
            self._due = ended + max(20 * (ended - started), self._min_seconds)
        return self._value


class PublishedDatabase:
    """What the API tells of the database at `path`; every method raises `Transient` while it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._kept: dict[str, Any] = {}
        self._frames = Costly(self._hours, HISTORY_SECONDS)
        self._last_day = Costly(lambda: self._read("last_day"), HISTORY_SECONDS)

    def stations(self) -> bytes:
        """The stations of the newest snapshot, as a GeoJSON feature collection."""
        return self._fresh("stations", lambda: _feature_collection(self._read("stations")))

    def bikes(self) -> bytes:
        """The free bikes of the newest snapshot, as a GeoJSON feature collection."""
        return self._fresh("bikes", lambda: _feature_collection(self._read("bikes")))

    def map(self, freshness: Freshness) -> bytes:
        """All that the map shows, as one JSON document: the newest snapshot, and the hours of the day before it."""
        latest = self._fresh("map", self._latest)
        document = map_document(latest, self._frames.get(), freshness(_time(latest.snapshot)))
        return json.dumps(document, ensure_ascii=False).encode()

    def city(self, freshness: Freshness) -> Row:
        """The newest snapshot at a glance, and the bikes at stations in the day before it as `[unix time, bikes]`."""
        city = self._fresh("city", self._city)
        last_day = [(row["at"], row["bikes"]) for row in self._last_day.get()] if city["snapshot_at"] else []
        return {**city, **freshness(_time(city["snapshot_at"])), "last_day": last_day}

    def _city(self) -> Row:
        (city,) = self._read("city")
        return {**city, "fullest": self._read("fullest"), "emptiest": self._read("emptiest")}

    def _latest(self) -> Latest:
        ((snapshot,),) = (row.values() for row in self._read("snapshot"))
        return Latest(snapshot, self._read("stations"), self._read("bikes"), self._read("map_cells"))

    def _hours(self) -> Hours:
        return Hours(self._read("map_station_hours"), self._read("map_cell_hours"))

    def _fresh(self, name: str, read: Callable[[], Value]) -> Value:
        """What was read since the database was last replaced, or is read now."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise Transient("no database has been published yet") from error
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._kept = stamp, {}
        if name not in self._kept:
            self._kept[name] = read()
        value: Value = self._kept[name]
        return value

    def _read(self, query: str) -> list[Row]:
        # An instance of its own, as within a process DuckDB shares those that are opened by the file's name: whoever
        # opened it first would decide on the settings of all, and keep the replaced file alive.
        try:
            with duckdb.connect(config=dict(_CONFIG)) as connection:
                connection.execute(f"ATTACH {quoted(str(self.path))} AS published (READ_ONLY)")
                connection.execute(f"USE published.{COMPATIBLE}")
                # A constant for the planner, so that only the files of its day are opened.
                connection.execute("SET VARIABLE newest_snapshot = (SELECT newest_snapshot FROM publication)")
                result = connection.execute(_sql(query))
                names = [column[0] for column in result.description]
                return [_row(names, values) for values in result.fetchall()]
        except (duckdb.OperationalError, duckdb.CatalogException) as error:  # any other is a bug of ours
            raise Transient(f"the database can't be read: {str(error).partition(chr(10))[0]}") from error


def _sql(query: str) -> str:
    return resources.files("bikeflow.http").joinpath("sql", f"{query}.sql").read_text(encoding="utf-8")


def _row(names: list[str], values: tuple[Any, ...]) -> Row:
    return {
        name: f"{value.isoformat(timespec='seconds')}Z" if isinstance(value, dt.datetime) else value
        for name, value in zip(names, values, strict=True)
    }


def _time(stamp: str | None) -> dt.datetime | None:
    return None if stamp is None else dt.datetime.fromisoformat(stamp)


def _feature_collection(rows: list[Row]) -> bytes:
    return json.dumps(
        {"type": "FeatureCollection", "features": [_feature(row) for row in rows]}, ensure_ascii=False
    ).encode()


def _feature(row: Row) -> dict[str, object]:
    point = [row.pop("lon"), row.pop("lat")]
    return {
        "type": "Feature",
        "id": row["station_id"],
        "geometry": None if None in point else {"type": "Point", "coordinates": point},
        "properties": row,
    }
