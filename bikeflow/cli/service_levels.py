"""`bikeflow service-levels`: for how long stations were empty and full."""

from __future__ import annotations

import datetime as dt
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli import results
from bikeflow.cli.districts import Districts
from bikeflow.cli.options import Given, Json, SystemId, day_of, grouped
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.warehouse.statements import described

DAYS = 7
"""So many finished local days are shown if no others are asked for."""
PERIODS = {
    "station": (),
    "hour": ("local_date", "local_hour", "hour_at"),
    "day": ("local_date",),
    "week": ("local_date",),
}
"""The columns that tell the period, by what `--by` asks for."""
SHOWN = """
SELECT {keys}, round(100 * known_seconds / (known_seconds + unknown_seconds), 1) AS "known %",
    {empty}, {full}
"""
SHOWN_STATE = """round(100 * {0}_seconds / nullif(known_seconds, 0), 1) AS "{0} %",
    {minutes} AS "minutes {0}", {0}_episodes AS "times {0}", {longest} AS "longest {0}"
"""
MINUTES = """format('{{:,}}', CAST({0} / 60 AS BIGINT))
    || if(CAST({0} / 60 AS BIGINT) = CAST({0}_at_most / 60 AS BIGINT), '',
        ' to ' || format('{{:,}}', CAST({0}_at_most / 60 AS BIGINT)))"""

By = Literal["station", "hour", "day", "week"]
Format = Literal["table", "csv", "json"]


@grouped
def service_levels(
    given: Given,
    by: Annotated[By, typer.Option("--by", help="Also a row for each hour, local day or week.")] = "station",
    first: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First local day.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last local day, inclusive.")] = None,
    station: Annotated[str | None, typer.Option("--station", metavar="ID", help="Only this station.")] = None,
    districts: Annotated[
        Path | None, typer.Option("--districts", metavar="FILE", help="Sum up by the areas in this GeoJSON file.")
    ] = None,
    district_name: Annotated[
        str, typer.Option("--district-name", metavar="NAME", help="The property that names an area.")
    ] = "name",
    form: Annotated[Format, typer.Option("--format", "-f", help="CSV and JSON give seconds.")] = "table",
    as_json: Json = False,
    system: SystemId = None,
) -> None:
    """Show for how long stations were empty and full.

    It is at least what is known, and at most that and all unknown time. An episode counts in each period that it
    touches, with its whole length. Without --from and --to, the last seven finished local days are shown.
    """
    areas = Districts.read(districts, district_name) if districts else None
    with connected(given.settings, system) as connection:
        days = _days(connection, first, last)
        values = {"period": None if by == "station" else by, "first": days[0], "last": days[1], "station": station}
        if station is not None:
            _check_station(connection, station)
        query, keys = _query(connection, by, areas, values)
        chosen = "json" if as_json else form
        if chosen == "table":
            results.echo(f"{days[0]} to {days[1]} in local time; minutes, from at least to at most")
            results.write_table(connection.execute(_shown(query, keys), values), sys.stdout)
        else:
            unused = [name for name in PERIODS["hour"] if name not in PERIODS[by]]
            columns = f"* EXCLUDE ({', '.join(unused)})" if unused else "*"
            result = connection.execute(f"SELECT {columns} FROM ({query}) ORDER BY ALL", values)  # noqa: S608
            (results.write_csv if chosen == "csv" else results.write_json)(result, sys.stdout)


def _query(
    connection: DuckDBPyConnection, by: By, areas: Districts | None, values: dict[str, Any]
) -> tuple[str, list[str]]:
    """What is asked, and the columns that name a row; what it needs is added to the `values`."""
    levels = _sql("service_levels")
    periods = list(PERIODS[by][:2])
    if areas is None:
        return levels, ["station_id", "name", *periods]
    rows = connection.execute("SELECT station_id, lat, lon FROM station_summary WHERE lat IS NOT NULL").fetchall()
    found = areas.of({station_id: (lat, lon) for station_id, lat, lon in rows})
    values |= {"stations": list(found), "districts": list(found.values())}
    return _sql("service_levels_districts").replace("{levels}", levels), ["district", "stations", *periods]


def _shown(query: str, keys: list[str]) -> str:
    """The table for people."""
    states = {
        state: SHOWN_STATE.format(
            state, minutes=MINUTES.format(f"{state}_seconds"), longest=MINUTES.format(f"longest_{state}_seconds")
        )
        for state in ("empty", "full")
    }
    return f"{SHOWN.format(keys=', '.join(keys), **states)} FROM ({query}) ORDER BY ALL"


def _check_station(connection: DuckDBPyConnection, station: str) -> None:
    """Raises BikeflowError where there is no such station."""
    if not connection.execute("SELECT 1 FROM station_summary WHERE station_id = $1", [station]).fetchall():
        raise BikeflowError(f"there is no station {station}; `bikeflow summary` lists them")


def _days(connection: DuckDBPyConnection, first: str | None, last: str | None) -> tuple[dt.date, dt.date]:
    """The range of local days that is asked for; raises ConfigError, BikeflowError."""
    found = connection.execute("SELECT min(local_date), max(local_date) FROM coverage_hours").fetchone()
    if found is None or found[0] is None:
        raise BikeflowError("nothing is known of this system yet")
    earliest, today = found
    until = day_of("--to", last) or max(today - dt.timedelta(days=1), earliest)
    since = day_of("--from", first) or min(max(until - dt.timedelta(days=DAYS - 1), earliest), until)
    if since > until:
        raise ConfigError(f"--from {since} is after --to {until}")
    return since, until


def _sql(name: str) -> str:
    text = resources.files("bikeflow.cli").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return described(text)[0]
