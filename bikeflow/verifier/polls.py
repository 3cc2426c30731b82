"""The conservation law for polls: those that were due = those that are recorded, and what they saw is there."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from bikeflow.core.layout import Layout, day_of
from bikeflow.core.model import UTC
from bikeflow.polls.poll import UNREADABLE, Poll, from_parquet, polls_between
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.store.base import CONCURRENT_REQUESTS, Store, if_found
from bikeflow.verifier.report import Days, Report


class PollAudit:
    """Audits the record of one system's polls: `read` it first, then compare it with the raw files that are there.

    The record of an archive of others begins when bikeflow begins to poll; the newest polls may not be there yet.
    """

    def __init__(self, store: Store, layout: Layout, report: Report) -> None:
        self._store = store
        self._layout = layout
        self._report = report
        self._wanted: Days = lambda _day: True
        self._days: list[dt.date] = []
        self._polls: list[Poll] = []

    async def read(self, wanted: Days) -> None:
        """Read the days that are wanted."""
        self._wanted = wanted
        infos = [info async for page in self._store.pages(self._layout.polls) for info in page]
        self._days = sorted(day for info in infos if (day := self._layout.polls_day(info.key)) is not None)
        found = await bounded_map(self._read_day, filter(wanted, self._days), CONCURRENT_REQUESTS)
        self._polls = [poll for polls in found for poll in polls]
        self._report.polls += sum(poll.polls for poll in self._polls)

    def compare(self, raw: Collection[str]) -> None:
        """Find what is missing, doubled or impossible in the record; `raw` are the keys of the wanted raw files."""
        for kind, day, message in (*self._doubled(), *self._wrong(), *self._missing()):
            self._report.find(kind, self._layout.polls_key(day), message)
        self._find_without_raw(raw)
        stored = {poll.s3_source_key for poll in self._polls if poll.outcome == "stored"}
        self._report.unpolled_files += sum(key not in stored for key in raw)

    async def _read_day(self, day: dt.date) -> list[Poll]:
        key = self._layout.polls_key(day)
        stored = await if_found(self._store.get(key))
        if stored is None:
            return []
        try:
            return from_parquet(self._layout.system_id, stored.data)
        except UNREADABLE as error:
            self._report.find("polls_unreadable", key, str(error).partition("\n")[0])
            return []

    def _doubled(self) -> Iterator[tuple[str, dt.date, str]]:
        for due_at, times in Counter(poll.due_at for poll in self._polls).items():
            if times > 1:
                yield "polls_doubled", due_at.date(), f"the poll that was due at {_time(due_at)} is there {times} times"

    def _wrong(self) -> Iterator[tuple[str, dt.date, str]]:
        """Rows that no bikeflow writes."""
        for poll in self._polls:
            interval = dt.timedelta(seconds=poll.interval_seconds)
            if poll.polls < 1 or poll.last_due_at != poll.due_at + (poll.polls - 1) * interval:
                yield "polls_wrong", poll.day, f"{poll.polls} polls can't be due from {_span(poll)}"

    def _missing(self) -> Iterator[tuple[str, dt.date, str]]:
        """Rows that others name, but that are not there; polls that were due between two rows that follow."""
        known = {poll.last_due_at: poll for poll in self._polls}
        for poll in self._polls:
            before = poll.previous_due_at
            if before is None:
                continue
            last = known.get(before)
            if last is None:
                if self._wanted(before.date()) and before.date() >= self._days[0]:  # earlier days may be deleted
                    yield "polls_missing", before.date(), f"the poll that was due at {_time(before)} is not recorded"
            elif count := polls_between(last, poll.due_at, max(last.interval_seconds, poll.interval_seconds)):
                message = f"{count} polls were due between {_time(before)} and {_time(poll.due_at)}"
                yield "polls_missing", poll.day, f"{message}, and are not recorded"

    def _find_without_raw(self, raw: Collection[str]) -> None:
        named: defaultdict[str, list[Poll]] = defaultdict(list)
        for poll in self._polls:
            if poll.s3_source_key is not None and poll.s3_source_key not in raw:
                named[poll.s3_source_key].append(poll)
        for key, polls in named.items():
            day = day_of(key)
            if self._wanted(day):
                first = min(poll.due_at for poll in polls)
                message = f"{len(polls)} polls saw what it holds, the first at {_time(first)}, but it is not there"
                self._report.find("polls_without_raw", key, message)


def _time(at: dt.datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _span(poll: Poll) -> str:
    return f"{_time(poll.due_at)} to {_time(poll.last_due_at)}, every {poll.interval_seconds:g} s"
