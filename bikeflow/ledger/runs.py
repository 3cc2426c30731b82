"""What ran and how it ended, when a partition that failed is due again, and which raw files gave no rows."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from dataclasses import asdict

from bikeflow.core.model import FileRecord, Partition, RawFile, Run
from bikeflow.ledger.database import Database, text
from bikeflow.ledger.files import raw_file_from, record_from

RUNS_KEPT = 10_000


class RunLog:
    """The tables `runs` and `backoff`, and what the analytics database needs that no Parquet file holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, run: Run, *, retry_initial_seconds: float = 5.0, retry_max_seconds: float = 900.0) -> None:
        """Keep a run; a failed one makes its partition wait, twice as long each time."""
        values = asdict(run)
        del values["partition"]
        partition = {"system_id": run.partition.system_id, "day": run.partition.day.isoformat()}
        values["started_at"], values["finished_at"] = text(run.started_at), text(run.finished_at)
        values["traces"] = json.dumps(run.traces)
        with self._database.transaction() as transaction:
            transaction.run("add_run", **partition, **values)
            transaction.run("forget_old_runs", kept=RUNS_KEPT)
            if run.outcome == "done":
                transaction.run("retry", **partition)
                return
            row = transaction.run("failures", **partition).fetchone()
            failures = (row["failures"] if row else 0) + 1
            wait = min(retry_initial_seconds * 2 ** min(failures - 1, 30), retry_max_seconds)
            retry_at = text(run.finished_at + dt.timedelta(seconds=wait))
            transaction.run("back_off", **partition, failures=failures, retry_at=retry_at, error=run.error or "")

    def retry_now(self, system_id: str | None = None) -> None:
        """Make all failed partitions, or those of one system, due at once, as after a restart."""
        with self._database.transaction() as transaction:
            transaction.run("retry", system_id=system_id, day=None)

    def latest(self, count: int = 10) -> list[dict[str, object]]:
        """The newest runs, newest first."""
        rows = self._database.rows("runs_since", run_id=None, count=count)
        return [{**dict(row), "traces": json.loads(row["traces"])} for row in rows]

    def failing(self) -> list[dict[str, object]]:
        """Partitions whose last run failed, with the reason and the time of the next try."""
        return [dict(row) for row in self._database.rows("failing_partitions")]

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """The newest `count` runs after this one, or of all where it is None or unknown; oldest first."""
        rows = self._database.rows("runs_since", run_id=run_id, count=count)
        return [_run(row) for row in reversed(rows)]

    def files_without_rows(self, count: int) -> list[tuple[RawFile, FileRecord | None]]:
        """The newest `count` raw files of segments that have no Parquet file: no row, or (None) not written yet."""
        rows = self._database.rows("files_without_rows", count=count)
        return [(raw_file_from(row), record_from(row)) for row in rows]


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    partition = Partition(values.pop("system_id"), dt.date.fromisoformat(values.pop("day")))
    times = {name: dt.datetime.fromisoformat(row[name]) for name in ("started_at", "finished_at")}
    return Run(**{**values, **times, "partition": partition, "traces": tuple(json.loads(row["traces"]))})
