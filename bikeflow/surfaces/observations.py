"""What the surfaces remember of the events that they heard."""

from __future__ import annotations

import datetime as dt
from collections import Counter

from bikeflow.model import (
    UTC,
    DatabasePublished,
    Event,
    ExportFinished,
    Fault,
    FetchFinished,
    Outcome,
    PartitionProcessed,
    Run,
    RunFinished,
)


class Observations:
    """The newest of each kind, and since when something is amiss; all of this process only."""

    def __init__(self) -> None:
        self.started_at = dt.datetime.now(UTC)
        self.fetches: Counter[Outcome] = Counter()
        self.last_fetch: FetchFinished | None = None
        self.losing: Fault | None = None
        """Set while new snapshots can't be kept on the local disk."""
        self.failing: dict[dt.date, Fault] = {}
        """Partitions whose last run failed."""
        self.published: DatabasePublished | None = None
        self.behind_since: dt.datetime | None = None
        """Since when the published database lacks what is processed."""
        self.rejected = 0
        """Lines that runs have rejected."""
        self.exports: dict[str, Fault | None] = {}
        """What is wrong with each further place that the database is taken to."""
        self._last_processed_at: dt.datetime | None = None
        self._stored_at: dt.datetime | None = None
        self._unchanged_at: dt.datetime | None = None

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case FetchFinished():
                self._fetched(event)
            case RunFinished():
                self.rejected += event.run.rejected
                self._ran(event.run)
            case PartitionProcessed():
                self._last_processed_at = dt.datetime.now(UTC)
                self.behind_since = self.behind_since or self._last_processed_at
            case DatabasePublished():
                self._publish(event)
            case ExportFinished():
                known = self.exports.get(event.target)
                since = known.since if known else dt.datetime.now(UTC)
                self.exports[event.target] = None if event.outcome == "done" else Fault(since, event.error or "")

    def forget_lake(self) -> None:
        """It is another lake from now on, of which nothing is known yet."""
        self.failing.clear()
        self.published = self.behind_since = self._last_processed_at = None
        self._stored_at = self._unchanged_at = None

    def unchanged_since(self, snapshot: dt.datetime) -> dt.datetime | None:
        """When a fetch last found that the feed still is as in this snapshot; None where there is a newer one."""
        newer = self._stored_at is not None and self._stored_at > snapshot
        return None if newer else self._unchanged_at

    def _fetched(self, event: FetchFinished) -> None:
        self.last_fetch = event
        if event.outcome.outcome == "stored":
            # The snapshot has the time, in whole seconds, at which its fetch began.
            self._stored_at = event.at - dt.timedelta(seconds=event.outcome.duration_seconds + 1)
        elif event.outcome.good:
            self._unchanged_at = event.at
        self.fetches[event.outcome.outcome] += 1
        if event.outcome.outcome == "lost":
            self.losing = Fault(self.losing.since if self.losing else event.at, event.outcome.error)
        elif event.outcome.good:
            self.losing = None

    def _ran(self, run: Run) -> None:
        known = self.failing.pop(run.partition, None)
        if run.outcome == "failed":
            since = known.since if known else run.started_at
            self.failing[run.partition] = Fault(since, f"partition {run.partition}: {run.error}")

    def _publish(self, event: DatabasePublished) -> None:
        self.published = event
        # What was processed while the refresh was under way may not be in it yet: another one follows.
        began = event.at - dt.timedelta(seconds=event.duration_seconds)
        late = self._last_processed_at
        self.behind_since = late if late is not None and late > began else None
