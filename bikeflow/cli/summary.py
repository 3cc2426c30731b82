"""`bikeflow summary`: all there is in a few numbers, day by day, and station by station."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from bikeflow.cli import options
from bikeflow.cli.database import connected

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAYS_SHOWN = 14
OVERALL = """
SELECT rows, segments, stations, bikes, newest_snapshot, published_at,
    (SELECT sum(snapshots) FROM data_quality) AS snapshots,
    (SELECT min(first_snapshot) FROM data_quality) AS first_snapshot,
    (SELECT count(*) FROM data_quality) AS days,
    (SELECT max(date) - min(date) + 1 - count(*) FROM data_quality) AS days_missing,
    (SELECT sum(rejected) FROM data_quality) AS rejected
FROM publication
"""
DAYS = """
SELECT date, snapshots, first_snapshot, last_snapshot, longest_gap_seconds, rows, rejected
FROM data_quality
ORDER BY date DESC
"""
GAPS = """
SELECT date + 1 AS first, following - 1 AS last, following - date - 1 AS days
FROM (SELECT date, lead(date) OVER (ORDER BY date) AS following FROM data_quality)
WHERE following > date + 1
ORDER BY date DESC
"""
STATIONS = """
SELECT station_id, name, observations, round(mean_bikes, 1) AS mean_bikes, min_bikes, max_bikes,
    round(100 * mean_occupancy, 1) AS "occupancy %", round(100 * share_empty, 1) AS "empty %",
    round(100 * share_full, 1) AS "full %", first_seen, last_seen
FROM station_summary
ORDER BY station_id
"""


def summary(
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Sum up all history, by day and by station. Also counts records, stations and bikes, and names the gaps."""
    with connected(options.load(config, overrides, data_dir).settings) as connection:
        if as_json:
            typer.echo(json.dumps(_document(connection), ensure_ascii=False))
        else:
            _print(connection)


def _document(connection: DuckDBPyConnection) -> dict[str, Any]:
    from bikeflow.cli.results import objects

    (overall,) = objects(connection.execute(OVERALL))
    stations = objects(connection.execute("FROM station_summary ORDER BY station_id"))
    coverage, gaps = (objects(connection.execute(sql)) for sql in (DAYS, GAPS))
    return {**overall, "coverage": coverage, "gaps": gaps, "station_summary": stations}


def _print(connection: DuckDBPyConnection) -> None:
    from bikeflow.cli.results import objects, write_table

    (overall,) = objects(connection.execute(OVERALL))
    snapshots = f"{overall['snapshots'] or 0:,}, from {overall['first_snapshot']} to {overall['newest_snapshot']} UTC"
    lines = [
        ("records", f"{overall['rows']:,}, and {overall['rejected'] or 0:,} rejected lines"),
        ("snapshots", snapshots if overall["snapshots"] else "none yet"),
        ("days", f"{overall['days']:,}, and {overall['days_missing'] or 0:,} missing between the first and the last"),
        ("stations", f"{overall['stations']:,}"),
        ("free bikes", f"{overall['bikes']:,} now"),
        ("published", f"{overall['published_at']} UTC"),
    ]
    typer.echo("\n".join(f"{name:<12} {value}" for name, value in lines))
    if overall["snapshots"]:
        typer.echo(f"\nCoverage, the newest {DAYS_SHOWN} days")
        write_table(connection.execute(f"{DAYS} LIMIT {DAYS_SHOWN}"), sys.stdout)
        if overall["days_missing"]:
            typer.echo("\nDays without any snapshot")
            write_table(connection.execute(GAPS), sys.stdout)
        typer.echo("\nStations")
        write_table(connection.execute(STATIONS), sys.stdout)
