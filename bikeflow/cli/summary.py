"""`bikeflow summary`: all there is in a few numbers, day by day, and station by station."""

from __future__ import annotations

import sys

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli.options import Given, Json, SystemId, grouped
from bikeflow.cli.results import echo_json, objects, write_table
from bikeflow.cli.sources import connected

DAYS_SHOWN = 14
OVERALL = """
SELECT rows, segments, stations, stations_outside, stations_empty, stations_full, bikes, bikes_outside,
    newest_snapshot, published_at, future_snapshots,
    (SELECT sum(snapshots) FROM data_quality) AS snapshots,
    (SELECT min(first_snapshot) FROM data_quality) AS first_snapshot,
    (SELECT count(*) FROM data_quality WHERE snapshots > 0) AS days,
    (SELECT count(*) FROM data_quality WHERE snapshots = 0 AND coalesce(known_seconds, 0) = 0) AS days_missing,
    (SELECT sum(rejected) FROM data_quality) AS rejected
FROM publication
"""
DAYS = """
SELECT date, snapshots, first_snapshot, last_snapshot, longest_gap_seconds, files, rows, rejected
FROM data_quality
WHERE files > 0 OR {all_days}
ORDER BY date DESC
"""
GAPS = """
SELECT min(date) AS first, max(date) AS last, count(*) AS days, CAST(sum(files) AS BIGINT) AS files
FROM (SELECT date, files, date - CAST(row_number() OVER (ORDER BY date) AS INTEGER) AS run FROM data_quality
    WHERE snapshots = 0 AND coalesce(known_seconds, 0) = 0)
GROUP BY run
ORDER BY first DESC
"""
STATIONS = """
SELECT station_id, name, observations, round(mean_bikes, 1) AS mean_bikes, min_bikes, max_bikes,
    round(100 * mean_occupancy, 1) AS "occupancy %", round(100 * share_empty, 1) AS "empty %",
    round(100 * share_full, 1) AS "full %", first_seen, last_seen
FROM station_summary
ORDER BY station_id
"""


@grouped
def summary(given: Given, system: SystemId = None, as_json: Json = False) -> None:
    """Sum up all history, by day and by station. Also counts records, stations and bikes, and names the gaps."""
    with connected(given.settings, system) as connection:
        if as_json:
            (overall,) = objects(connection.execute(OVERALL))
            stations = objects(connection.execute("FROM station_summary ORDER BY station_id"))
            coverage, gaps = (objects(connection.execute(sql)) for sql in (DAYS.format(all_days=True), GAPS))
            echo_json({**overall, "coverage": coverage, "gaps": gaps, "station_summary": stations})
        else:
            _print(connection)


def _print(connection: DuckDBPyConnection) -> None:
    (overall,) = objects(connection.execute(OVERALL))
    snapshots = f"{overall['snapshots'] or 0:,}, from {overall['first_snapshot']} to {overall['newest_snapshot']} UTC"
    counts = f"{overall['stations_empty']:,} of them empty and {overall['stations_full']:,} full"
    lines = [
        ("records", f"{overall['rows']:,}, and {overall['rejected'] or 0:,} rejected lines"),
        ("snapshots", snapshots if overall["snapshots"] else "none yet"),
        ("days", f"{overall['days']:,} with snapshots, and {overall['days_missing']:,} without any"),
        (
            "stations",
            f"{overall['stations']:,} in the newest snapshot, {counts}{_outside(overall['stations_outside'])}",
        ),
        ("free bikes", f"{overall['bikes']:,} in the newest snapshot{_outside(overall['bikes_outside'])}"),
        ("published", f"{overall['published_at']} UTC"),
    ]
    if later := overall["future_snapshots"]:
        told = "1 snapshot is" if later == 1 else f"{later:,} snapshots are"
        counts = "counts once its" if later == 1 else "count once their"
        lines.append(("future", f"{told} dated in the future, and {counts} time has come"))
    typer.echo("\n".join(f"{name:<12} {value}" for name, value in lines))
    if overall["snapshots"]:
        typer.echo(f"\nCoverage, the newest {DAYS_SHOWN} days")
        write_table(connection.execute(f"{DAYS.format(all_days=False)} LIMIT {DAYS_SHOWN}"), sys.stdout)
        if overall["days_missing"]:
            typer.echo("\nDays without any snapshot")
            write_table(connection.execute(GAPS), sys.stdout)
        typer.echo("\nStations")
        write_table(connection.execute(STATIONS), sys.stdout)


def _outside(count: int) -> str:
    return f"; {count:,} more outside the service area" if count else ""
