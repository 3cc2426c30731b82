"""A segment's file is read once: as a few temporary tables, which its partial results and kept files are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from bikeflow.warehouse.statements import macros, readings


@contextlib.contextmanager
def reading(connection: duckdb.DuckDBPyConnection, file: Path) -> Iterator[None]:
    """The tables of `sql/readings` over this file of the enhanced layer; raises duckdb.Error."""
    for name, query in readings().items():
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS\n{query}", {"file": str(file)})
    yield
    # those of a whole day are large; where something failed, the transaction has taken them away
    for name in readings():
        connection.execute(f"DROP TABLE temp.{name}")


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """What the queries share, in the schema `partials` of the database `working`, which the connection uses."""
    connection.execute("CREATE SCHEMA partials")
    for statement in macros():
        connection.execute(statement)
