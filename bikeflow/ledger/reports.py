"""What the ledger tells the analytics database that no Parquet file can."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3

from bikeflow.core.model import RawFileFact, Run
from bikeflow.ledger.database import Database


class Reports:
    """Runs, and raw files that lie in no Parquet file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """The newest `count` runs after this one, or of all where it is None or unknown; oldest first."""
        rows = self._database.rows(
            "SELECT * FROM runs WHERE rowid > coalesce((SELECT rowid FROM runs WHERE run_id = ?), 0)"
            " ORDER BY rowid DESC LIMIT ?",
            run_id,
            count,
        )
        return [_run(row) for row in reversed(rows)]

    def files_without_rows(self, count: int) -> list[RawFileFact]:
        """The newest `count` raw files of segments that have no Parquet file: no row, or not written yet."""
        # CROSS JOIN: the few segments first. SQLite would go through all raw files, as they are in order.
        rows = self._database.rows(
            "SELECT raw.* FROM segments CROSS JOIN raw_files AS raw USING (partition, segment_end)"
            " WHERE enhanced_etag IS NULL ORDER BY key DESC LIMIT ?",
            count,
        )
        return [_fact(row) for row in rows]


def _run(row: sqlite3.Row) -> Run:
    times = {name: dt.datetime.fromisoformat(row[name]) for name in ("started_at", "finished_at")}
    partition, traces = dt.date.fromisoformat(row["partition"]), tuple(json.loads(row["traces"]))
    return Run(**{**dict(row), **times, "partition": partition, "traces": traces})


def _fact(row: sqlite3.Row) -> RawFileFact:
    done = row["done_etag"] == row["etag"]
    md5, lines, rows, rejected = (row[name] if done else None for name in ("md5", "lines", "rows", "rejected"))
    partition, time = dt.date.fromisoformat(row["partition"]), dt.datetime.fromisoformat(row["time"])
    return RawFileFact(row["key"], partition, time, row["size"], md5, lines, rows, rejected)
