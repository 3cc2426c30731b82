"""What the rows themselves can't tell: runs, and raw files that gave no row. Who knows it passes it in."""

from __future__ import annotations

import datetime as dt
from typing import Protocol

import duckdb
import pyarrow as pa

from bikeflow.core.model import RawFileFact, Run

KEPT = 2_000
"""So many runs, and so many raw files without rows, are published: the newest."""

_TIME = pa.timestamp("us")
_COUNTS = [(name, pa.int64()) for name in ("lines", "rows", "rejected")]
RUNS = pa.schema(
    [
        ("number", pa.int64()),
        ("run_id", pa.string()),
        ("system_id", pa.string()),
        ("date", pa.date32()),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("outcome", pa.string()),
        ("segments", pa.int64()),
        ("files", pa.int64()),
        *_COUNTS,
        ("error", pa.string()),
        ("traces", pa.list_(pa.string())),
    ]
)
FILES = pa.schema(
    [
        ("s3_source_key", pa.string()),
        ("system_id", pa.string()),
        ("date", pa.date32()),
        ("file_timestamp", _TIME),
        ("size_bytes", pa.int64()),
        ("md5", pa.string()),
        *_COUNTS,
    ]
)


class PipelineFacts(Protocol):
    """Who knows of runs and raw files; called from the warehouse's thread."""

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """The newest `count` runs after this one, or of all where it is None or unknown; oldest first."""
        ...

    def files_without_rows(self, count: int) -> list[RawFileFact]:
        """The newest `count` raw files that lie in a segment without a Parquet file."""
        ...


class NoFacts:
    """Nobody knows anything."""

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """No runs."""
        return []

    def files_without_rows(self, count: int) -> list[RawFileFact]:
        """No files."""
        return []


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables `runs` (numbered, newest last) and `files_without_rows`, empty."""
    for table, schema in (("runs", RUNS), ("files_without_rows", FILES)):
        connection.register("facts", schema.empty_table())
        connection.execute(f"CREATE TABLE state.{table} AS FROM facts")
        connection.unregister("facts")


def take_over(connection: duckdb.DuckDBPyConnection, facts: PipelineFacts) -> None:
    """Bring both tables up to date: of the runs, only those that came since are asked for."""
    ((number, run_id),) = connection.execute("SELECT max(number), arg_max(run_id, number) FROM state.runs").fetchall()
    if runs := facts.runs_since(run_id, KEPT):
        numbered = [_run(*item) for item in enumerate(runs, start=(number or 0) + 1)]
        _insert(connection, "runs", RUNS, numbered)
        connection.execute("DELETE FROM state.runs WHERE number <= $1", [(number or 0) + len(runs) - KEPT])
    files = facts.files_without_rows(KEPT)
    if files or connection.execute("SELECT 1 FROM state.files_without_rows LIMIT 1").fetchall():
        connection.execute("DELETE FROM state.files_without_rows")
        _insert(connection, "files_without_rows", FILES, [_file(file) for file in files])


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema, rows: list[dict[str, object]]
) -> None:
    if len(rows) == 1:  # a run, as after each arrival: a quarter of what it takes as a table
        values = ", ".join(f"${name}" for name in schema.names)
        connection.execute(f"INSERT INTO state.{table} VALUES ({values})", rows[0])
        return
    connection.register("facts", pa.Table.from_pylist(rows, schema))
    try:
        connection.execute(f"INSERT INTO state.{table} FROM facts")
    finally:
        connection.unregister("facts")


def _run(number: int, run: Run) -> dict[str, object]:
    times = {"started_at": _naive(run.started_at), "finished_at": _naive(run.finished_at)}
    values = {name: getattr(run, name) for name in RUNS.names if hasattr(run, name)}
    return {
        **values,
        **times,
        "number": number,
        "system_id": run.partition.system_id,
        "date": run.partition.day,
        "traces": list(run.traces),
    }


def _file(fact: RawFileFact) -> dict[str, object]:
    counts = {"lines": fact.lines, "rows": fact.rows, "rejected": fact.rejected}
    return {
        "s3_source_key": fact.key,
        "system_id": fact.partition.system_id,
        "date": fact.partition.day,
        "file_timestamp": _naive(fact.time),
        "size_bytes": fact.size,
        "md5": fact.md5,
        **counts,
    }


def _naive(at: dt.datetime) -> dt.datetime:
    return at.astimezone(dt.UTC).replace(tzinfo=None)
