"""A segment's file is read once: as two temporary tables, which its partial results and kept files are made of."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from bikeflow.warehouse.parquet import Records
from bikeflow.warehouse.statements import SEGMENT_ROWS, macros, quoted, readings


class RecentRows(Protocol):
    """The rows of a segment's file, which somebody still has in memory."""

    def rows_of(self, keys: Collection[str]) -> pa.Table:
        """Those of these raw files, in the columns of the enhanced layer; called from the warehouse's thread."""
        ...


@contextlib.contextmanager
def reading(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], records: Records) -> Iterator[None]:
    """The tables of `sql/readings` over these files of the enhanced layer, whose footers have these records.

    Raises duckdb.Error.
    """
    # A day is read by each query as it needs it.
    connection.execute(f"CREATE TEMP VIEW {SEGMENT_ROWS} AS {_files_sql(files)}")
    with _tables(connection, records):
        yield
    connection.execute(f"DROP VIEW temp.{SEGMENT_ROWS}")


@contextlib.contextmanager
def reading_some(
    connection: duckdb.DuckDBPyConnection, file: Path, records: Records, recent: RecentRows | None
) -> Iterator[None]:
    """The same over a few raw files of those in it, whose rows `recent` has at hand, or the file."""
    if recent is None:
        keys = ", ".join(map(quoted, records))
        connection.execute(
            f"CREATE TEMP TABLE {SEGMENT_ROWS} AS FROM {_file_sql(file)} WHERE s3_source_key IN ({keys})"
        )
    else:
        rows = recent.rows_of(records.keys())
        connection.register("recent", rows.append_column("file_row_number", pa.array(range(len(rows)), pa.int64())))
        connection.execute(f"CREATE TEMP TABLE {SEGMENT_ROWS} AS FROM recent")
        connection.unregister("recent")
    with _tables(connection, records):
        yield
    connection.execute(f"DROP TABLE temp.{SEGMENT_ROWS}")


@contextlib.contextmanager
def _tables(connection: duckdb.DuckDBPyConnection, records: Records) -> Iterator[None]:
    told = json.dumps(list(records.values()))
    for name, query in readings().items():
        parameters = {"records": told} if "$records" in query else None
        connection.execute(f"CREATE TEMP TABLE {name} AS\n{query}", parameters)
    yield
    # those of a whole day are large; where something failed, the transaction has taken them away
    for name in readings():
        connection.execute(f"DROP TABLE temp.{name}")


def _files_sql(files: Sequence[Path]) -> str:
    """The rows of several files, with numbers that no two rows share."""
    numbered = (
        f"SELECT * REPLACE (file_row_number + {place * 1_000_000_000} AS file_row_number) FROM {_file_sql(file)}"  # noqa: S608
        for place, file in enumerate(files)
    )
    return "\nUNION ALL\n".join(numbered) if len(files) > 1 else f"FROM {_file_sql(files[0])}"


def _file_sql(file: Path) -> str:
    return f"read_parquet({quoted(str(file))}, hive_partitioning = false, file_row_number = true)"


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """What the queries share, in the schema `partials` of the database `working`, which the connection uses."""
    connection.execute("CREATE SCHEMA partials")
    for statement in macros():
        connection.execute(statement)
