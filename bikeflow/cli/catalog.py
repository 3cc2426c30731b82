"""`bikeflow catalog`: what the database holds and means."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bikeflow.cli.options import Given, Json, grouped
from bikeflow.cli.results import write_json, write_table
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError

SHOWN = "CASE WHEN schema_name = 'main' THEN 'main.' || object ELSE object END"
OBJECTS = f"""
SELECT {SHOWN} AS object, CASE WHEN needs_files THEN kind || ' of files' ELSE kind END AS kind, description
FROM main.catalog
WHERE column_name IS NULL
ORDER BY schema_name = 'main', rowid
"""  # noqa: S608
FILES = """\
Views of files read Parquet files below data_dir by their full paths: in a copy of the database on another machine they
fail, and all others work. Those of main hold all systems, all others one."""
COLUMNS = f"""
SELECT column_name, data_type, description
FROM main.catalog
WHERE {SHOWN} = $1 AND position > 0
ORDER BY position
"""  # noqa: S608
EVERYTHING = f"FROM main.catalog WHERE $1 IS NULL OR {SHOWN} = $1 ORDER BY schema_name = 'main', rowid"
Name = Annotated[str | None, typer.Argument(metavar="TABLE", help="A table or view of the database.")]


@grouped
def catalog(given: Given, name: Name = None, as_json: Json = False) -> None:
    """Tell what every table means, or every column of one. With --json, all of it."""
    with connected(given.settings) as connection:
        known = [row[0] for row in connection.execute(OBJECTS).fetchall()]
        if name not in known and f"main.{name}" in known:
            name = f"main.{name}"
        if name is not None and name not in known:
            raise BikeflowError(f"there is no {name} in the database; `bikeflow catalog` names all tables")
        if as_json:
            write_json(connection.execute(EVERYTHING, [name]), sys.stdout)
        elif name is None:
            write_table(connection.execute(OBJECTS), sys.stdout)
            typer.echo(FILES)
        else:
            write_table(connection.execute(COLUMNS, [name]), sys.stdout)
