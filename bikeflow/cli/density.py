"""`bikeflow density`: where the bikes are now, by grid cells of 1000 m²."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli import results
from bikeflow.cli.options import Given, Json, SystemId, grouped
from bikeflow.cli.sources import connected
from bikeflow.warehouse.statements import quoted

TABLE_CELLS = 20
CELLS = "FROM bike_density ORDER BY bike_count DESC, cell_id LIMIT {limit}"
SHOWN = """
SELECT cell_id, round(grid_lat, 5) AS grid_lat, round(grid_lon, 5) AS grid_lon, bike_count, station_count,
    mobile_bike_count, density_per_1000m2, stations
"""
POLYGONS = """
SELECT * EXCLUDE (min_lat, max_lat, min_lon, max_lon),
    CAST(
        format(
            'POLYGON (({0} {2}, {1} {2}, {1} {3}, {0} {3}, {0} {2}))',
            CAST(min_lon AS VARCHAR), CAST(max_lon AS VARCHAR), CAST(min_lat AS VARCHAR), CAST(max_lat AS VARCHAR)
        ) AS GEOMETRY
    ) AS geometry
"""
TOTALS = """
SELECT count(*) AS cells, sum(bike_count) AS bikes, sum(station_count) AS stations,
    sum(mobile_bike_count) AS mobile_bikes,
    (SELECT newest_snapshot FROM publication) AS snapshot
FROM bike_density
"""


Format = Literal["table", "geojson", "geoparquet", "csv", "json"]


@grouped
def density(
    given: Given,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="Only the N fullest cells (a table: 20, else all).")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", "-f", help="GeoJSON and GeoParquet have a polygon for each cell.")
    ] = "table",
    as_json: Json = False,
    system: SystemId = None,
) -> None:
    """Show the grid cells with the most bikes.

    All bikes of the newest snapshot inside the service area count, at stations and free.
    """
    chosen = "json" if as_json else form
    cells = CELLS.format(limit=top or (TABLE_CELLS if chosen == "table" else "ALL"))
    with connected(given.settings, system) as connection:
        if chosen == "table":
            results.write_table(connection.execute(f"{SHOWN} {cells}"), sys.stdout)
            typer.echo(_totals(connection))
        elif chosen == "geojson":
            features = [_feature(cell) for cell in results.objects(connection.execute(cells))]
            results.echo_json({"type": "FeatureCollection", "features": features})
        elif chosen == "geoparquet":
            sys.stdout.buffer.write(_geoparquet(connection, cells))
        else:
            write = results.write_csv if chosen == "csv" else results.write_json
            write(connection.execute(cells), sys.stdout)


def _totals(connection: DuckDBPyConnection) -> str:
    (total,) = results.objects(connection.execute(TOTALS))
    if not total["cells"]:
        return "nothing stands inside the service area in the newest snapshot"
    return (
        f"{total['bikes']:,} bikes in {total['cells']:,} cells in all, {total['mobile_bikes']:,} of them free;"
        f" {total['stations']:,} stations; snapshot of {total['snapshot']} UTC"
    )


def _geoparquet(connection: DuckDBPyConnection, cells: str) -> bytes:
    """The cells as a GeoParquet file: DuckDB itself describes columns of its type GEOMETRY as that format wants it."""
    # the only folder where it may write
    (folder,) = connection.execute("SELECT current_setting('temp_directory')").fetchone() or ("",)
    path = Path(folder, "cells.parquet")
    connection.execute(f"COPY ({POLYGONS} {cells}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    return path.read_bytes()


def _feature(cell: dict[str, Any]) -> dict[str, Any]:
    west, east, south, north = (cell.pop(name) for name in ("min_lon", "max_lon", "min_lat", "max_lat"))
    # counterclockwise and closed, as RFC 7946 wants it
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "id": cell["cell_id"],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": cell,
    }
