"""`bikeflow map`: the map of stations and bikes as one file that works offline."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from bikeflow.cli.options import Given, grouped
from bikeflow.cli.sources import existing_database
from bikeflow.core.errors import BikeflowError
from bikeflow.health.health import freshness
from bikeflow.http.pages import map_file
from bikeflow.http.published import PublishedDatabase, instance
from bikeflow.runtime.files import write_whole


@grouped
def map(
    given: Given,
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, metavar="FILE", help="The HTML file to write.")
    ] = Path("bikeflow-map.html"),
) -> None:
    """Write the map with its last day as one HTML file. It shows stations, free bikes and density, offline."""
    settings = given.settings
    path = existing_database(settings)
    now = dt.datetime.now(dt.UTC)
    with instance(path, settings.data_dir) as connection:
        database = PublishedDatabase(path, connection, lambda snapshot: freshness(snapshot, settings, None, now))
        document = database.map()
    text = map_file(settings.map, document)
    try:
        write_whole(out, text.encode())
    except OSError as error:
        raise BikeflowError(f"can't write {out}: {error.strerror}") from error
    typer.echo(f"{out}: {out.stat().st_size / 1000:,.0f} kB; open it in a browser, no network needed")
