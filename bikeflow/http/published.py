"""The published database as the API reads it: read-only, never in the way of a refresh, and no oftener than it changes.

Everything here blocks; the server calls it in a thread of its own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from bikeflow.core.errors import Transient
from bikeflow.warehouse.mirror import mirror_root
from bikeflow.warehouse.reading import restrict
from bikeflow.warehouse.statements import COMPATIBLE, quoted

Row = dict[str, Any]
Value = TypeVar("Value")
Freshness = Callable[[dt.datetime | None], Row]
"""Whether a snapshot of this time is the city as it is now (`bikeflow.health.health.freshness`)."""

HISTORY_SECONDS = 60.0
_FORECAST = ("forecast_status", "forecast_stations", "forecast_scores")
_CONFIG: Mapping[str, str | int | bool] = {
    "threads": 1,
    "memory_limit": "256MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_file_cache": False,
}


class Costly(Generic[Value]):
    """A value that is recomputed when asked for, but in no more than a twentieth of the time."""

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


def instance(path: Path, data_dir: Path) -> duckdb.DuckDBPyConnection:
    """An instance of DuckDB that can read the database at `path` and the files that it names, and no others.

    Databases opened by file name are shared within a process: the first to open one would set the options of all, and
    keep a replaced file alive. Open this early and keep it: DuckDB aborts the process if no file descriptor is left to
    open one.
    """
    connection = duckdb.connect(config=dict(_CONFIG))
    restrict(connection, files=[str(path), f"{path}.wal"], directory=mirror_root(data_dir).parent)
    return connection


class PublishedDatabase:
    """What the API tells of the database at `path`; every method raises `Transient` while it can't be read.

    It is attached to the `connection` while something is read of it.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, freshness: Freshness) -> None:
        self._path = path
        self._freshness = freshness
        self._connection = connection
        self._stamp: tuple[int, int] | None = None
        self._map: tuple[object, object, object, bytes] = (None, None, None, b"")
        self._kept: dict[str, Any] = {}
        self._hours = Costly(lambda: self._read_all("map_station_hours", "map_cell_hours"), HISTORY_SECONDS)
        self._last_day = Costly(lambda: self._read("last_day"), HISTORY_SECONDS)

    def stations(self) -> bytes:
        """The stations of the newest snapshot, as a GeoJSON feature collection."""
        return self._fresh("stations", lambda: _feature_collection(self._read("stations")))

    def bikes(self) -> bytes:
        """The free bikes of the newest snapshot, as a GeoJSON feature collection."""
        return self._fresh("bikes", lambda: _feature_collection(self._read("bikes")))

    def forecast(self) -> bytes:
        """How likely stations have a bike, and a dock, and how good such forecasts were, as one JSON document.

        `status` tells where there is none, and why.
        """
        return self._fresh("forecast", lambda: _forecast(*self._read_all(*_FORECAST)))

    def map(self) -> bytes:
        """All that the map shows, as one JSON document: the newest snapshot, and the hours of the day before it.

        `stations` and `bikes` are those of the newest snapshot, `cells` the bounds of the grid's cells by id, as
        `[south, west, north, east]`. `frames` has the bikes by station and by cell: in the mean of each hour, oldest
        first, with its beginning as `at` (seconds since 1970), and at last in the newest snapshot (`at` is null).
        """
        names = ("snapshot", "stations", "bikes", "map_cells")
        found, hours = self._fresh("map", lambda: self._read_all(*names)), self._hours.get()
        (snapshot,), stations, bikes, cells = found
        fresh = self._freshness(_time(snapshot["snapshot"]))
        if self._map[0] is found and self._map[1] is hours and self._map[2] == fresh:
            return self._map[3]
        station_hours, cell_hours = hours
        frames: dict[int, Row] = {}
        for kind, rows, key in (("stations", station_hours, "station_id"), ("cells", cell_hours, "cell_id")):
            for row in rows:
                frame = frames.setdefault(row["at"], {"at": row["at"], "stations": {}, "cells": {}})
                frame[kind][row[key]] = row["bikes"]
        newest = {
            "at": None,
            "stations": {row["station_id"]: row["bikes"] for row in stations},
            "cells": {row["cell_id"]: row["bikes"] for row in cells},
        }
        document = {
            **snapshot,
            **fresh,
            "stations": _placed(stations),
            "bikes": _placed(bikes),
            "cells": _bounds(cell_hours) | _bounds(cells),
            "frames": [frames[at] for at in sorted(frames)] + [newest],
        }
        self._map = found, hours, fresh, json.dumps(document, ensure_ascii=False).encode()
        return self._map[3]

    def city(self) -> Row:
        """The newest snapshot at a glance, and the bikes at stations in the day before it as `[unix time, bikes]`."""
        (city,), fullest, emptiest = self._fresh(
            "city",
            lambda: (
                self._read("city"),
                self._read("by_share", order="share DESC, bikes DESC, name"),
                self._read("by_share", order="share, total_docks DESC, name"),  # the larger ones first
            ),
        )
        last_day = [(row["at"], row["bikes"]) for row in self._last_day.get()] if city["snapshot_at"] else []
        fresh = self._freshness(_time(city["snapshot_at"]))
        return {**city, "fullest": fullest, "emptiest": emptiest, **fresh, "last_day": last_day}

    def _read_all(self, *queries: str) -> list[list[Row]]:
        return [self._read(query) for query in queries]

    def _fresh(self, name: str, read: Callable[[], Value]) -> Value:
        """What was read since the database was last replaced, or is read now."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise Transient("no database has been published yet") from error
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._kept = stamp, {}
        if name not in self._kept:
            self._kept[name] = read()
        value: Value = self._kept[name]
        return value

    def _read(self, query: str, **parts: str) -> list[Row]:
        try:
            with self._attached():
                sql = resources.files("bikeflow.http").joinpath("sql", f"{query}.sql").read_text(encoding="utf-8")
                result = self._connection.execute(sql.format(**parts))
                names = [column[0] for column in result.description]
                return [_row(names, values) for values in result.fetchall()]
        except (duckdb.OperationalError, duckdb.CatalogException) as error:  # any other is a bug of ours
            raise Transient(f"the database can't be read: {str(error).partition(chr(10))[0]}") from error

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        run = self._connection.execute
        run(f"ATTACH {quoted(str(self._path))} AS published (READ_ONLY)")
        try:
            run(f"USE published.{COMPATIBLE}")
            # A constant for the planner, so that only the files of its day are opened.
            run("SET VARIABLE newest_snapshot = (SELECT newest_snapshot FROM publication)")
            yield
        finally:
            run("USE memory")
            run("DETACH published")


def _row(names: list[str], values: tuple[Any, ...]) -> Row:
    return {
        name: f"{value.isoformat(timespec='seconds')}Z" if isinstance(value, dt.datetime) else value
        for name, value in zip(names, values, strict=True)
    }


def _time(stamp: str | None) -> dt.datetime | None:
    return None if stamp is None else dt.datetime.fromisoformat(stamp)


def _placed(rows: Iterable[Row]) -> list[Row]:
    """Those that have a place on the map; what has no name is called by its id."""
    return [{**row, "name": row["name"] or row["station_id"]} for row in rows if row["lat"] is not None]


def _bounds(cells: Iterable[Row]) -> dict[str, list[float]]:
    edges = ("min_lat", "min_lon", "max_lat", "max_lon")
    return {cell["cell_id"]: [round(cell[edge], 7) for edge in edges] for cell in cells}


def _forecast(status: list[Row], stations: list[Row], scores: list[Row]) -> bytes:
    told = status[0] if status else {"status": "none", "days": 0, "before_date": None}
    return json.dumps({**told, "stations": stations, "scores": scores}).encode()


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
