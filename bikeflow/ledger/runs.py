"""What ran and how it ended, and when a partition that failed is due again."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict

from bikeflow.core.model import Run
from bikeflow.ledger.database import Database, text

RUNS_KEPT = 10_000


class RunLog:
    """The tables `runs` and `backoff`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, run: Run, *, retry_initial_seconds: float, retry_max_seconds: float) -> None:
        """Keep a run; a failed one makes its partition wait, twice as long each time."""
        values = asdict(run)
        values["partition"] = run.partition.isoformat()
        values["started_at"], values["finished_at"] = text(run.started_at), text(run.finished_at)
        values["traces"] = json.dumps(run.traces)
        marks = ", ".join(f":{name}" for name in values)
        with self._database.transaction() as transaction:
            transaction.execute(f"INSERT INTO runs ({', '.join(values)}) VALUES ({marks})", values)
            transaction.execute(
                "DELETE FROM runs WHERE rowid <= (SELECT max(rowid) FROM runs) - ?",
                (RUNS_KEPT,),
            )
            if run.outcome == "done":
                transaction.execute("DELETE FROM backoff WHERE partition = ?", (values["partition"],))
                return
            row = transaction.execute(
                "SELECT failures FROM backoff WHERE partition = ?", (values["partition"],)
            ).fetchone()
            failures = (row["failures"] if row else 0) + 1
            wait = min(retry_initial_seconds * 2 ** min(failures - 1, 30), retry_max_seconds)
            retry_at = text(run.finished_at + dt.timedelta(seconds=wait))
            transaction.execute(
                "INSERT OR REPLACE INTO backoff VALUES (?, ?, ?, ?)",
                (values["partition"], failures, retry_at, run.error or ""),
            )

    def forgive(self) -> None:
        """Make all failed partitions due at once, as after a restart."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM backoff")

    def latest(self, count: int = 10) -> list[dict[str, object]]:
        """The newest runs, newest first."""
        rows = self._database.rows("SELECT * FROM runs ORDER BY rowid DESC LIMIT ?", count)
        return [{**dict(row), "traces": json.loads(row["traces"])} for row in rows]

    def failing(self) -> list[dict[str, object]]:
        """Partitions whose last run failed, with the reason and the time of the next try."""
        return [dict(row) for row in self._database.rows("SELECT * FROM backoff ORDER BY partition")]
