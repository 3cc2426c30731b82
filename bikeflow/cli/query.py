"""`bikeflow query`: SQL on the published database, read-only, as a table or for the next program in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Literal

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli import results
from bikeflow.cli.options import Given, Json, SystemId, grouped
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.warehouse.reading import reading_statements

OVERVIEW = """
SELECT if(schema_name = 'main', 'main.' || name, name) AS name, kind, comment
FROM (
    SELECT schema_name, view_name AS name, 'view' AS kind, comment FROM duckdb_views() WHERE NOT internal
    UNION ALL
    SELECT schema_name, table_name, 'table', comment FROM duckdb_tables()
)
WHERE schema_name IN ('wrm_analytics', 'main')
ORDER BY schema_name = 'main', name
"""

Format = Literal["table", "csv", "json", "parquet"]
Writer = Callable[[DuckDBPyConnection, IO[str]], None]
_WRITERS: Mapping[Format, Writer] = {
    "table": results.write_table,
    "csv": results.write_csv,
    "json": results.write_json,
    "parquet": results.write_parquet,
}
ENDINGS: Mapping[str, Format] = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".txt": "table"}


@grouped
def query(
    given: Given,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="The statement, or - to read it from standard input.")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="How to write it (default: by --out, else table on a terminal, csv in a pipe)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help=f"Write to a file that ends in {', '.join(ENDINGS)}."),
    ] = None,
    formulas: Annotated[
        bool | None,
        typer.Option(
            "--formulas/--no-formulas",
            help="CSV: leave texts that a spreadsheet would compute as they are (default: unless --out is given).",
        ),
    ] = None,
    system: SystemId = None,
    as_json: Json = False,
) -> None:
    """Ask the published database; without SQL, show what it holds.

    Tables need no schema before their name: they are those of one system. Those of main have all systems.
    """
    out = None if out == Path("-") else out
    chosen = "json" if as_json else form or _default_format(out)
    if chosen == "parquet" and out is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is not text: add --out FILE", param_hint="--format")
    settings = given.settings
    if sql == "-" or (sql is None and not sys.stdin.isatty()):
        sql = sys.stdin.read()
    statements = sql if sql and sql.strip() else OVERVIEW
    with connected(settings, system) as connection:
        write = _WRITERS[chosen]
        if chosen == "csv":
            write = partial(results.write_csv, formulas=out is None if formulas is None else formulas)
        _run(connection, statements, chosen, out, write)


def _default_format(out: Path | None) -> Format:
    if out is None:
        return "table" if sys.stdout.isatty() else "csv"
    if not out.suffix:
        return "csv"
    try:
        return ENDINGS[out.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"--out {out}: bikeflow can't write {out.suffix}; name a file that ends in {', '.join(ENDINGS)}"
            " (spreadsheets open .csv), or add --format"
        ) from None


def _run(connection: DuckDBPyConnection, sql: str, form: Format, out: Path | None, write: Writer) -> None:
    """Run all statements, and write what each gives; only tables can be written one after another."""
    statements = reading_statements(connection, sql)
    if not statements:
        raise BikeflowError("there is no statement in this SQL")
    # those that give rows, such as SELECT, and unlike SET
    kinds = [[kind.name for kind in statement.expected_result_type] for statement in statements]
    answering = [number for number, kind in enumerate(kinds) if kind == ["QUERY_RESULT"]] or [len(statements) - 1]
    if len(answering) > 1 and form != "table":
        raise BikeflowError(
            f"{len(answering)} of these statements give rows, and {form} holds one result: run them one by one, or"
            " add --format table"
        )
    with _opened(out) as file:
        for number, statement in enumerate(statements):
            connection.execute(statement)
            if number in answering:
                file.write("\n" if number > answering[0] else "")
                write(connection, file)


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is replaced when all is written."""
    if out is None:
        yield sys.stdout
        return
    if out.exists() and not out.is_file():
        raise BikeflowError(f"{out} is not a file")
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(out)
    except OSError as error:
        raise BikeflowError(f"{out}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
