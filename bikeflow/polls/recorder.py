"""Writes down what each poll of one system came to, and the polls that did not happen."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

from bikeflow.core.errors import Transient
from bikeflow.core.model import FetchOutcome, SnapshotStored
from bikeflow.polls.log import PollLog
from bikeflow.polls.poll import Poll, PollOutcome, not_polled
from bikeflow.runtime.log import get_logger

MAX_WAITING = 1_000
"""So many polls are kept in memory while the disk does not take them."""
LONGEST_ERROR = 300
_OUTCOMES: dict[str, tuple[PollOutcome, str | None]] = {
    "duplicate": ("unchanged", None),
    "skipped_open_circuit": ("skipped", "circuit_open"),
}
"""Outcomes of fetches that have another name here, and why there was no request."""
_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Start:
    """Polls begin, the first one at `due_at`; `known_key` is the last snapshot that is known from before."""

    due_at: dt.datetime
    known_key: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A snapshot that was to be stored under one key has got another."""

    key: str
    new_key: str


class Recorder:
    """The record of one system, for its fetcher; `snapshot_time` tells the time in a raw key.

    Where the disk fails, rows wait in memory and are written with the next one.
    """

    def __init__(
        self,
        log: PollLog,
        system_id: str,
        interval_seconds: float,
        snapshot_time: Callable[[str], dt.datetime | None],
    ) -> None:
        self._log = log
        self._system_id = system_id
        self._interval_seconds = interval_seconds
        self._snapshot_time = snapshot_time
        self._last: Poll | None = None
        self._started = False
        self._waiting: list[_Start | _Stored | Poll] = []
        self._failing = False
        self._keys: dict[str, str] = {}

    async def start(self, due_at: dt.datetime, known_key: str) -> None:
        """Record what was due since the last poll that is recorded, before the first one; further calls do nothing."""
        if not self._started:
            self._started = True
            await self._write(_Start(due_at, known_key))

    async def record(
        self, outcome: FetchOutcome, key: str, due_at: dt.datetime, started_at: dt.datetime, finished_at: dt.datetime
    ) -> None:
        """Record a poll; `key` is the raw file that has what it saw, "" where it saw nothing."""
        name, reason = _OUTCOMES.get(outcome.outcome, (outcome.outcome, outcome.reason or None))
        if outcome.outcome == "stored":
            stored_as = self._keys.pop(outcome.trace_id, None)
            if stored_as is None:
                self._keys[outcome.trace_id] = key
            key = stored_as or key
        await self._write(
            Poll(
                system_id=self._system_id,
                due_at=due_at,
                last_due_at=due_at,
                previous_due_at=None,
                interval_seconds=self._interval_seconds,
                outcome=name,  # type: ignore[arg-type]
                started_at=started_at,
                finished_at=finished_at,
                reason=reason,
                error=outcome.error[:LONGEST_ERROR] or None,
                status=outcome.status,
                bytes=outcome.bytes or None,
                attempts=outcome.attempts,
                s3_source_key=key or None,
            )
        )

    def note_stored(self, event: SnapshotStored) -> None:
        """A snapshot is in the store: where another one had its key, under another."""
        key = self._keys.pop(event.trace_id, None)
        if key is None:  # it was quicker than its poll's end, or is of an earlier process
            self._keys[event.trace_id] = event.info.key
        elif key != event.info.key:
            self._waiting.append(_Stored(key, event.info.key))
        while len(self._keys) > MAX_WAITING:
            del self._keys[next(iter(self._keys))]

    async def flush(self) -> None:
        """Write what still waits."""
        if self._waiting:
            await self._write()

    async def _write(self, *items: _Start | Poll) -> None:
        self._waiting += items
        try:
            await asyncio.to_thread(self._write_waiting)
        except Transient as error:
            if not self._failing:
                _log.error("poll_not_recorded", system=self._system_id, error=str(error))
            self._failing = True
            del self._waiting[:-MAX_WAITING]
            return
        if self._failing:
            _log.info("polls_recorded_again", system=self._system_id)
        self._failing = False

    def _write_waiting(self) -> None:
        """Write all that waits, in one transaction."""
        items, rows = list(self._waiting), list[Poll]()
        last = self._last or self._log.newest(self._system_id)
        for item in items:
            for row in self._rows(item, last):
                rows.append(row)
                last = last if isinstance(item, _Stored) else row
        self._log.add(rows)
        self._last = last
        del self._waiting[: len(items)]

    def _rows(self, item: _Start | _Stored | Poll, last: Poll | None) -> list[Poll]:
        match item:
            case _Stored():
                row = self._log.stored_as(self._system_id, item.key)
                return [] if row is None else [replace(row, s3_source_key=item.new_key)]
            case _Start():
                return [] if last is None else self._rows_before(item, last)
        rows = [] if last is None else self._gap(last, item)
        before = rows[-1] if rows else last
        return [*rows, replace(item, previous_due_at=before.last_due_at if before else None)]

    def _rows_before(self, start: _Start, last: Poll) -> list[Poll]:
        """What an earlier process has not recorded: the poll in which it was killed, and those missed since."""
        taken_at = self._snapshot_time(start.known_key)
        recorded = taken_at is None or taken_at <= (last.finished_at or last.last_due_at)
        if taken_at is None or recorded or self._log.stored_as(self._system_id, start.known_key):
            return self._missed(last, start.due_at)
        rows = self._missed(last, taken_at)
        before = rows[-1] if rows else last
        due_at = min(before.last_due_at + dt.timedelta(seconds=self._interval_seconds), taken_at)
        interrupted = Poll(
            system_id=self._system_id,
            due_at=due_at,
            last_due_at=due_at,
            previous_due_at=before.last_due_at,
            interval_seconds=self._interval_seconds,
            outcome="stored",
            finished_at=taken_at,
            reason="interrupted",
            s3_source_key=start.known_key,
        )
        return [*rows, interrupted, *self._missed(interrupted, start.due_at)]

    def _missed(self, last: Poll, due_at: dt.datetime) -> list[Poll]:
        return list(not_polled(last, due_at, self._interval_seconds, "missed", "not_running"))

    def _gap(self, last: Poll, poll: Poll) -> list[Poll]:
        """The polls that were due between two: one took too long, or time went on without us."""
        next_due_at = last.last_due_at + dt.timedelta(seconds=self._interval_seconds)
        slow = last.finished_at is not None and last.finished_at > next_due_at
        if slow:
            return list(not_polled(last, poll.due_at, self._interval_seconds, "skipped", "slow"))
        return list(not_polled(last, poll.due_at, self._interval_seconds, "missed", "clock"))
