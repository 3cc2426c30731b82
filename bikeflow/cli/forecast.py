"""`bikeflow forecast`: where a bike, or a dock, will be missing soon, and how good such forecasts were."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli import results
from bikeflow.cli.options import Given, Json, SystemId, grouped
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError

MINUTES = 30
"""Stations are listed by what is expected so many minutes later, and the scores that are told are of that."""
STATIONS = """
SELECT station_id, name, bikes, spaces, station_forecast.* EXCLUDE (station_id)
FROM station_forecast
JOIN wrm_stations_latest USING (station_id)
WHERE $station IS NULL OR station_id = $station
"""
SHOWN = """
SELECT station_id, name, bikes, spaces,
    {chances}
FROM ({stations})
WHERE {target}_{minutes} IS NOT NULL
ORDER BY {target}_{minutes}, station_id
LIMIT {limit}
"""
CHANCE = 'round(100 * {0}_{1}, 1) AS "{0} in {1} min %"'
SCORES = """
SELECT *, (SELECT count(DISTINCT date) FROM forecast_scores) AS days
FROM forecast_scores
WHERE date IS NULL
ORDER BY target, horizon_minutes
"""


@grouped
def forecast(
    given: Given,
    station: Annotated[str | None, typer.Option("--station", metavar="ID", help="Only this station.")] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="N", help="Only the N first stations of each table.")
    ] = 10,
    as_json: Json = False,
    system: SystemId = None,
) -> None:
    """Show where a bike, or a dock, will be missing soon.

    Below stands how good such forecasts were in the last 28 days. JSON has all stations and all scores.
    """
    if not given.settings.warehouse.forecast:
        raise BikeflowError("the forecast is switched off: warehouse.forecast = false")
    with connected(given.settings, system) as connection:
        status = next(iter(_rows(connection, "FROM forecast_status")), None)
        if status is None:
            raise BikeflowError("nothing is known of this system yet")
        stations = _rows(connection, f"{STATIONS} ORDER BY station_id", {"station": station})
        if station is not None and status["status"] == "ready" and not stations:
            raise BikeflowError(f"there is no station {station} in service; `bikeflow query` lists stations_latest")
        scores = _rows(connection, SCORES)
        if as_json:
            results.echo_json({**status, "stations": stations, "scores": scores})
        elif status["status"] != "ready":
            results.echo(status["status"])
        else:
            _show(connection, station, top)
            for line in _told(scores):
                results.echo(line)


def _show(connection: DuckDBPyConnection, station: str | None, top: int) -> None:
    """A table of stations for each target; of one station, one for both."""
    ((made_at,),) = connection.execute("SELECT max(made_at) FROM station_forecast").fetchall()
    results.echo(f"as of {made_at:%Y-%m-%d %H:%M:%S} UTC; least likely first")
    for target in ("bike", "dock"):
        chances = ", ".join(CHANCE.format(target, minutes) for minutes in (15, 30, 60))
        query = SHOWN.format(chances=chances, stations=STATIONS, target=target, minutes=MINUTES, limit=top)
        results.write_table(connection.execute(query, {"station": station}), sys.stdout)


def _told(scores: list[dict[str, Any]]) -> list[str]:
    """How good forecasts were, in plain words."""
    chosen = [row for row in scores if row["horizon_minutes"] == MINUTES]
    if not chosen:
        return ["how good such forecasts are is not known yet: no finished day comes after 14 days of history"]
    return [
        f"a {row['target']} in {MINUTES} minutes ({row['forecasts']:,} forecasts of {row['days']} days): the mean"
        f" squared error is {row['brier']:.4f}, {_than(row['skill_persistence'])} than if what is now stayed and"
        f" {_than(row['skill_climatology'])} than of the usual share at that hour; probabilities are"
        f" {100 * row['calibration_error']:.1f} points off what happened"
        for row in chosen
    ]


def _than(skill: float | None) -> str:
    """How much less an error is."""
    if skill is None:
        return "more"  # the other one made no error
    return f"{abs(100 * skill):.0f} % {'less' if skill >= 0 else 'more'}"


def _rows(connection: DuckDBPyConnection, sql: str, values: dict[str, object] | None = None) -> list[dict[str, Any]]:
    return list(results.objects(connection.execute(sql, values or {})))
