"""`bikeflow catalog`: what the database holds and means."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bikeflow.cli import options
from bikeflow.cli.database import connected

OBJECTS = """
SELECT object, CASE WHEN needs_files THEN kind || ' of files' ELSE kind END AS kind, description
FROM catalog
WHERE column_name IS NULL
"""
FILES = """\
Views of files read Parquet files below data_dir by their full paths: in a copy of the database on another machine they
fail, and all others work."""
COLUMNS = "SELECT column_name, data_type, description FROM catalog WHERE object = $1 AND position > 0 ORDER BY position"
Name = Annotated[str | None, typer.Argument(metavar="TABLE", help="A table or view of the database.")]


def catalog(
    name: Name = None,
    as_json: options.Json = False,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
) -> None:
    """Tell what every table means, or every column of one. With --json, all of it."""
    from bikeflow.cli.results import write_json, write_table
    from bikeflow.errors import BikeflowError

    with connected(options.load(config, overrides, data_dir).settings) as connection:
        known = [row[0] for row in connection.execute(OBJECTS).fetchall()]
        if name is not None and name not in known:
            raise BikeflowError(f"there is no {name} in the database; `bikeflow catalog` names all tables")
        if as_json:
            everything = "FROM catalog WHERE $1 IS NULL OR object = $1"
            write_json(connection.execute(everything, [name]), sys.stdout)
        elif name is None:
            write_table(connection.execute(OBJECTS), sys.stdout)
            typer.echo(FILES)
        else:
            write_table(connection.execute(COLUMNS, [name]), sys.stdout)
