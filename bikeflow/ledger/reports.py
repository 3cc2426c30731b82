"""What the ledger tells the analytics database that no Parquet file can."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3

from bikeflow.core.model import Partition, RawFileFact, Run
from bikeflow.ledger.database import Database


class Reports:
    """Runs, and raw files that lie in no Parquet file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """The newest `count` runs after this one, or of all where it is None or unknown; oldest first."""
        rows = self._database.rows("runs_since", run_id=run_id, count=count)
        return [_run(row) for row in reversed(rows)]

    def files_without_rows(self, count: int) -> list[RawFileFact]:
        """The newest `count` raw files of segments that have no Parquet file: no row, or not written yet."""
        rows = self._database.rows("files_without_rows", count=count)
        return [_fact(row) for row in rows]


def _run(row: sqlite3.Row) -> Run:
    times = {name: dt.datetime.fromisoformat(row[name]) for name in ("started_at", "finished_at")}
    values = {name: value for name, value in dict(row).items() if name not in ("system_id", "day")}
    return Run(**{**values, **times, "partition": _partition(row), "traces": tuple(json.loads(row["traces"]))})


def _fact(row: sqlite3.Row) -> RawFileFact:
    done = row["done_etag"] == row["etag"]
    md5, lines, rows, rejected = (row[name] if done else None for name in ("md5", "lines", "rows", "rejected"))
    time = dt.datetime.fromisoformat(row["time"])
    return RawFileFact(row["key"], _partition(row), time, row["size"], md5, lines, rows, rejected)


def _partition(row: sqlite3.Row) -> Partition:
    return Partition(row["system_id"], dt.date.fromisoformat(row["day"]))
