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
        del values["partition"]
        partition = {"system_id": run.partition.system_id, "day": run.partition.day.isoformat()}
        values["started_at"], values["finished_at"] = text(run.started_at), text(run.finished_at)
        values["traces"] = json.dumps(run.traces)
        with self._database.transaction() as transaction:
            transaction.run("add_run", **partition, **values)
            transaction.run("forget_old_runs", kept=RUNS_KEPT)
            if run.outcome == "done":
                transaction.run("retry_partition", **partition)
                return
            row = transaction.run("failures", **partition).fetchone()
            failures = (row["failures"] if row else 0) + 1
            wait = min(retry_initial_seconds * 2 ** min(failures - 1, 30), retry_max_seconds)
            retry_at = text(run.finished_at + dt.timedelta(seconds=wait))
            transaction.run("back_off", **partition, failures=failures, retry_at=retry_at, error=run.error or "")

    def retry_now(self, system_id: str | None = None) -> None:
        """Make all failed partitions, or those of one system, due at once, as after a restart."""
        with self._database.transaction() as transaction:
            if system_id is None:
                transaction.run("retry_all")
            else:
                transaction.run("retry_system", system_id=system_id)

    def latest(self, count: int = 10) -> list[dict[str, object]]:
        """The newest runs, newest first."""
        rows = self._database.rows("latest_runs", count=count)
        return [{**dict(row), "traces": json.loads(row["traces"])} for row in rows]

    def failing(self) -> list[dict[str, object]]:
        """Partitions whose last run failed, with the reason and the time of the next try."""
        return [dict(row) for row in self._database.rows("failing_partitions")]
