"""One part of the year's benchmark as a process: `refresh`, `ask` or `ask_files`, the folder, the number of runs."""

from __future__ import annotations

import datetime as dt
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from bikeflow.core.layout import sealed_segment
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse import Warehouse, published_path
from bikeflow.warehouse.mirror import empty_file, mirror_root, version_of
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.warehouse import Written
from tests.benchmarks.year import hour_of_next_day
from tests.support.wrm import wrm_day

Timed = Callable[[Path, str], tuple[float, list[tuple[str, ...]]]]
SETTINGS = WarehouseSettings()
RAW = "read_parquet('{root}/system_id=wrm/dt=2*/*.parquet', hive_partitioning = true, hive_types = {{'dt': DATE}})"
QUESTIONS = {
    "the newest row of each station": (
        "FROM wrm_stations_latest",
        "FROM raw WHERE record_type = 'station' QUALIFY row_number() OVER"
        ' (PARTITION BY station_id ORDER BY "timestamp" DESC, file_timestamp DESC, s3_source_key DESC) = 1',
    ),
    "the summary of all stations": (
        "FROM station_summary",
        "SELECT station_id, any_value(name), count(*), min(file_timestamp), max(file_timestamp), avg(bikes),"
        " min(bikes), max(bikes), avg(bikes / nullif(bikes + spaces, 0)), sum(if(bikes = 0, lasted, 0)) / sum(lasted),"
        " sum(if(spaces = 0, lasted, 0)) / sum(lasted) FROM (SELECT *, least(1800, epoch(lead(file_timestamp)"
        " OVER (PARTITION BY station_id ORDER BY file_timestamp) - file_timestamp)) AS lasted FROM raw"
        " WHERE record_type = 'station') GROUP BY station_id",
    ),
    "bike density": (
        "FROM bike_density",
        "SELECT floor(lat / 0.000284) AS r, floor(lon / 0.000451) AS c, sum(bikes), count(*) FROM raw"
        " WHERE s3_source_key = (SELECT max_by(s3_source_key, file_timestamp) FROM raw)"
        " AND NOT list_contains(quality_flags, 'outside_service_area') GROUP BY ALL",
    ),
    "hourly means of all stations on one day": (
        "FROM station_hourly WHERE date = DATE '2026-01-15'",
        "SELECT station_id, hour(file_timestamp), count(*), avg(bikes), min(bikes), max(bikes), avg(spaces) FROM raw"
        " WHERE dt = DATE '2026-01-15' AND record_type = 'station' GROUP BY ALL",
    ),
    "one week of one station": (
        "SELECT file_timestamp, bikes, spaces FROM wrm_stations_only WHERE station_id = '{station}'"
        " AND date BETWEEN DATE '2026-01-12' AND DATE '2026-01-18'",
        "SELECT file_timestamp, bikes, spaces FROM raw WHERE station_id = '{station}' AND record_type = 'station'"
        " AND dt BETWEEN DATE '2026-01-12' AND DATE '2026-01-18' ORDER BY file_timestamp DESC, \"timestamp\" DESC",
    ),
}

OWN = {
    "bikes now against what is usual": "SELECT station_id, bikes, median FROM stations_latest"
    " JOIN station_usual USING (system_id, station_id)"
    " WHERE (local_weekday, local_hour) = (isodow(file_timestamp), hour(file_timestamp))",
    "flows of one day, by station and hour": "FROM station_flows_hourly WHERE date = DATE '2026-01-15'",
    "empty and full minutes of one week, by station": "FROM station_service_levels WHERE period = 'week'"
    " AND local_date = DATE '2026-01-12'",
    "empty and full minutes of one station, by day of a month": "FROM station_service_levels WHERE period = 'day'"
    " AND station_id = '{station}' AND local_date BETWEEN DATE '2026-01-01' AND DATE '2026-01-31'",
    "the longest times without a bike in one week": "FROM station_episodes WHERE state = 'empty'"
    " AND began_at BETWEEN DATE '2026-01-12' AND DATE '2026-01-19' ORDER BY seconds DESC LIMIT 20",
    "trips and relocations of free bikes on one day": "FROM bike_moves WHERE date = DATE '2026-01-15'",
    "the fleet hour by hour, one week": "FROM fleet_hourly WHERE date BETWEEN DATE '2026-01-12' AND DATE '2026-01-18'",
    "gaps of the year": "FROM gaps",
    "known time day by day, the year": "FROM coverage_days",
    "the forecast of all stations": "FROM station_forecast",
}
"""Questions that a line of SQL over the files can't answer: in the schema `main`."""


def refresh(folder: Path, runs: int) -> None:
    """Refresh as often, each time after one more snapshot; the first of several is not counted."""
    write_empty(empty_file(mirror_root(folder)))
    files = {}
    for path in mirror_root(folder).glob("system_id=wrm/dt=2*/*_235959.*.parquet"):
        day = dt.date.fromisoformat(path.parent.name.removeprefix("dt="))
        files[sealed_segment(wrm_day(day))] = path
    warehouse, seconds, size = Warehouse(SETTINGS, folder), [], 0
    for number in range(runs):
        written: Written = {}
        if runs > 1:
            new = hour_of_next_day(folder, number + 1)
            assert new.object is not None
            files[new.segment] = mirror_root(folder) / version_of(new.object, new.object.etag)
            written = {new.segment.partition: [new]}
        started = time.perf_counter()
        size = warehouse.refresh(files, written).published.size_bytes
        seconds.append(time.perf_counter() - started)
    warehouse.close()
    told = {"seconds": statistics.median(seconds[1:] or seconds), "bytes": size}
    (folder / "refresh.json").write_text(json.dumps(told))


def ask(folder: Path, runs: int) -> None:
    """Each question of the published database, with a fresh connection each time."""
    station = _timed(folder, "SELECT min(station_id) FROM stations_latest")[1][0][0]
    (folder / "station").write_text(station)
    asked = {what: f"USE wrm_analytics; {sql}" for what, (sql, _) in QUESTIONS.items()} | OWN
    _answer(
        folder / "ask.json", {what: sql.format(station=station) for what, sql in asked.items()}, folder, runs, _timed
    )


def ask_files(folder: Path, runs: int) -> None:
    """Each question of the files, in the same way."""
    station = (folder / "station").read_text()
    asked = {what: sql.format(station=station) for what, (_, sql) in QUESTIONS.items()}
    _answer(folder / "ask_files.json", asked, folder, runs, _timed_raw)


def _answer(told: Path, asked: Mapping[str, str], folder: Path, runs: int, timed: Timed) -> None:
    medians = {what: statistics.median(timed(folder, sql)[0] for _ in range(runs)) for what, sql in asked.items()}
    told.write_text(json.dumps(medians))


def _timed(folder: Path, sql: str) -> tuple[float, list[tuple[str, ...]]]:
    started = time.perf_counter()
    path = str(published_path(SETTINGS, folder))
    with duckdb.connect(path, read_only=True, config={"threads": SETTINGS.threads}) as reader:
        rows = reader.execute(sql).fetchall()
    return time.perf_counter() - started, rows


def _timed_raw(folder: Path, sql: str) -> tuple[float, list[tuple[str, ...]]]:
    started = time.perf_counter()
    with duckdb.connect(config={"threads": SETTINGS.threads}) as reader:
        source = RAW.format(root=mirror_root(folder))
        rows = reader.execute(f"WITH raw AS NOT MATERIALIZED (FROM {source}) {sql}").fetchall()
    return time.perf_counter() - started, rows


COMMANDS: dict[str, Callable[[Path, int], None]] = {"refresh": refresh, "ask": ask, "ask_files": ask_files}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
