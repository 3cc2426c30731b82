"""`bikeflow query`: SQL on the published database, read-only, as a table or for the next program in a pipe."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bikeflow.cli import options
from bikeflow.cli.database import connected

if TYPE_CHECKING:
    from typing import IO

    from duckdb import DuckDBPyConnection

OVERVIEW = """
SELECT name, kind, comment
FROM (
    SELECT schema_name, view_name AS name, 'view' AS kind, comment FROM duckdb_views()
    UNION ALL
    SELECT schema_name, table_name, 'table', comment FROM duckdb_tables()
)
WHERE schema_name = 'wrm_analytics'
ORDER BY name
"""
# what could leave something behind; all else that writes is refused by DuckDB itself, as the database is read-only
_REFUSED = {"ATTACH", "COPY", "COPY_DATABASE", "DETACH", "EXPORT", "LOAD", "UPDATE_EXTENSIONS"}


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    sql: Annotated[str | None, typer.Argument(help="The statement, or - to read it from standard input.")] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Else by --out's suffix, else table on a terminal and csv in a pipe."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to a file.")] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
) -> None:
    """Ask the published database; without SQL, show what it holds. Tables need no schema before their name."""
    settings = options.load(config, overrides, data_dir).settings
    chosen = Format.JSON if as_json else form or _default_format(out)
    if chosen is Format.PARQUET and out is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is nothing for a terminal: add --out FILE", param_hint="--format")
    statements = _statements(sql)
    with connected(settings) as connection:
        _run(connection, statements, chosen, out)


def _default_format(out: Path | None) -> Format:
    for form in Format:
        if out is not None and out.suffix == f".{form}":
            return form
    return Format.TABLE if out is None and sys.stdout.isatty() else Format.CSV


def _statements(sql: str | None) -> str:
    if sql == "-" or (sql is None and not sys.stdin.isatty()):
        sql = sys.stdin.read()
    return sql if sql and sql.strip() else OVERVIEW


def _run(connection: DuckDBPyConnection, sql: str, form: Format, out: Path | None) -> None:
    """Run all statements, and write what the last one gives."""
    from bikeflow.core.errors import BikeflowError

    statements = connection.extract_statements(sql)
    if not statements:
        raise BikeflowError("there is no statement in this SQL")
    for statement in statements:
        if statement.type.name in _REFUSED:
            raise BikeflowError(f"query only reads, it does not {statement.type.name}; --out FILE writes the result")
    for statement in statements:
        connection.execute(statement)
    if out is None:
        _write(connection, form, sys.stdout)
        return
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            _write(connection, form, file)
        part.replace(out)
    except OSError as error:
        raise BikeflowError(f"{out}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _write(connection: DuckDBPyConnection, form: Format, file: IO[str]) -> None:
    from bikeflow.cli import results

    {
        Format.TABLE: results.write_table,
        Format.CSV: results.write_csv,
        Format.JSON: results.write_json,
        Format.PARQUET: results.write_parquet,
    }[form](connection, file)
