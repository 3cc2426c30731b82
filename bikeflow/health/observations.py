"""What is remembered of the events of this process."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection

from bikeflow.core.model import (
    UTC,
    DatabasePublished,
    Event,
    ExportFinished,
    Fault,
    FetchFinished,
    Outcome,
    Partition,
    Run,
    RunFinished,
)


class Observations:
    """The newest event of each kind, and since when something fails; all of this process only."""

    def __init__(self) -> None:
        self.started_at = dt.datetime.now(UTC)
        self.fetches: Counter[Outcome] = Counter()
        self.last_fetches: dict[str, FetchFinished] = {}
        """The last fetch of each system."""
        self.losing: dict[str, Fault] = {}
        """Systems whose new snapshots can't be kept on the local disk."""
        self.failing: dict[Partition, Fault] = {}
        """Partitions whose last run failed."""
        self.published: DatabasePublished | None = None
        self.behind_since: dt.datetime | None = None
        """Since when the published database lacks what is processed."""
        self.rejected = 0
        """Lines that runs have rejected."""
        self.exports: dict[str, Fault | None] = {}
        """What is wrong with each further place that the database is taken to."""
        self._last_processed_at: dt.datetime | None = None
        self._stored_at: dict[str, dt.datetime] = {}
        self._unchanged_at: dict[str, dt.datetime] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case FetchFinished():
                self._fetched(event)
            case RunFinished():
                self.rejected += event.run.rejected
                self._ran(event.run)
                if event.written:
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
        self._stored_at.clear()
        self._unchanged_at.clear()

    def forget_others(self, systems: Collection[str]) -> None:
        """Only these systems are there from now on."""
        for seen in (self.last_fetches, self.losing, self._stored_at, self._unchanged_at):
            for system_id in seen.keys() - systems:
                del seen[system_id]
        self.failing = {partition: fault for partition, fault in self.failing.items() if partition.system_id in systems}

    def unchanged_since(self, system_id: str, snapshot: dt.datetime) -> dt.datetime | None:
        """When a fetch last found a feed unchanged since this snapshot; None where there is a newer one."""
        stored_at = self._stored_at.get(system_id)
        return None if stored_at is not None and stored_at > snapshot else self._unchanged_at.get(system_id)

    @property
    def last_fetch(self) -> FetchFinished | None:
        """The last fetch of any system."""
        return max(self.last_fetches.values(), key=lambda event: event.at, default=None)

    def _fetched(self, event: FetchFinished) -> None:
        self.last_fetches[event.system_id] = event
        if event.outcome.outcome == "stored":
            # The snapshot has the time, in whole seconds, at which its fetch began.
            self._stored_at[event.system_id] = event.at - dt.timedelta(seconds=event.outcome.duration_seconds + 1)
        elif event.outcome.good:
            self._unchanged_at[event.system_id] = event.at
        self.fetches[event.outcome.outcome] += 1
        if event.outcome.outcome == "lost":
            known = self.losing.get(event.system_id)
            self.losing[event.system_id] = Fault(known.since if known else event.at, event.outcome.error)
        elif event.outcome.good:
            self.losing.pop(event.system_id, None)

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
