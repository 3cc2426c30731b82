"""`bikeflow map`: the map of stations and bikes as one file that works offline."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from bikeflow.cli import options


def map_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, metavar="FILE", help="The HTML file to write.")
    ] = Path("bikeflow-map.html"),
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write the map with its last day as one HTML file. It shows stations, free bikes and density, offline."""
    from bikeflow.core.errors import BikeflowError
    from bikeflow.health.freshness import freshness
    from bikeflow.http.pages import map_file
    from bikeflow.http.published import PublishedDatabase
    from bikeflow.warehouse import published_path

    settings = options.load(config, overrides, data_dir).settings
    path = published_path(settings.warehouse, settings.data_dir)
    if not path.exists():
        raise BikeflowError(f"there is no database at {path} yet; {options.start_hint(settings.data_dir)}")
    now = dt.datetime.now(dt.UTC)
    document = PublishedDatabase(path, lambda snapshot: freshness(snapshot, settings, None, now)).map()
    text = map_file(settings.map, document)
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise BikeflowError(f"can't write {out}: {error.strerror}") from error
    typer.echo(f"{out}: {out.stat().st_size / 1000:,.0f} kB; open it in a browser, no network needed")
