"""A segment's file is read once: as a few temporary tables, which its partial results and kept files are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from bikeflow.warehouse.statements import SEGMENT_ROWS, macros, quoted, readings


@contextlib.contextmanager
def reading(connection: duckdb.DuckDBPyConnection, file: Path, only: Collection[str] = ()) -> Iterator[None]:
    """The tables of `sql/readings` over this file of the enhanced layer, or over the rows of these raw files in it.

    Raises duckdb.Error.
    """
    rows = f"FROM read_parquet({quoted(str(file))}, hive_partitioning = false, file_row_number = true)"
    # A day is read by each query as it needs it; of a few raw files, all is read in one go.
    kind, condition = ("TABLE", f" WHERE s3_source_key IN ({', '.join(map(quoted, only))})") if only else ("VIEW", "")
    connection.execute(f"CREATE TEMP {kind} {SEGMENT_ROWS} AS {rows}{condition}")
    for name, query in readings().items():
        parameters = {"file": str(file), "only": list(only) or None} if "$file" in query else None
        connection.execute(f"CREATE TEMP TABLE {name} AS\n{query}", parameters)
    yield
    # those of a whole day are large; where something failed, the transaction has taken them away
    for name in readings():
        connection.execute(f"DROP TABLE temp.{name}")
    connection.execute(f"DROP {kind} temp.{SEGMENT_ROWS}")


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """What the queries share, in the schema `partials` of the database `working`, which the connection uses."""
    connection.execute("CREATE SCHEMA partials")
    for statement in macros():
        connection.execute(statement)
