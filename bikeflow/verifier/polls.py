"""The conservation law for polls: those that were due = those that are recorded, and what they saw is there."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from bikeflow.core.layout import Layout, day_of
from bikeflow.core.model import UTC
from bikeflow.polls.poll import UNREADABLE, Poll, from_parquet, polls_between
from bikeflow.store.base import Store, if_found
from bikeflow.verifier.report import Days, Report

Fault = tuple[str, dt.date, str]
"""The kind of a finding, the day that it is found on, and a message."""


class PollAudit:
    """Audits the record of one system's polls: `read` it first, then compare it with the raw files that are there.

    The record of an archive of others begins when bikeflow begins to poll; the newest polls may not be there yet. Of a
    long record, only two days' polls are in memory at a time.
    """

    def __init__(self, store: Store, layout: Layout, report: Report) -> None:
        self._store = store
        self._layout = layout
        self._report = report
        self._wanted: Days = lambda _day: True
        self._first_day = dt.date.min
        self._stored: set[str] = set()
        self._seen: dict[str, dt.datetime] = {}

    async def read(self, wanted: Days) -> None:
        """Read the days that are wanted, and find what is missing, doubled or impossible in them."""
        self._wanted = wanted
        infos = [info async for page in self._store.pages(self._layout.polls) for info in page]
        days = sorted(day for info in infos if (day := self._layout.polls_day(info.key)) is not None)
        self._first_day = min(days, default=dt.date.min)
        before: Sequence[Poll] = ()
        for day in filter(wanted, days):
            polls = await self._read_day(day)
            for kind, found_on, message in (*_doubled(polls), *_wrong(polls), *self._missing(polls, before)):
                self._report.find(kind, self._layout.polls_key(found_on), message)
            self._report.polls += sum(poll.polls for poll in polls)
            self._note_keys(polls)
            before = polls or before

    def compare(self, raw: Collection[str]) -> None:
        """Find raw files that polls name but that are not there; `raw` are the keys of the wanted ones."""
        for key, first in self._seen.items():
            if key not in raw and self._wanted(day_of(key)):
                message = f"a poll saw what it holds, at {_time(first)}, but it is not there"
                self._report.find("polls_without_raw", key, message)
        self._report.unpolled_files += sum(key not in self._stored for key in raw)

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

    def _note_keys(self, polls: Sequence[Poll]) -> None:
        for poll in polls:
            if poll.s3_source_key is not None:
                self._seen.setdefault(poll.s3_source_key, poll.due_at)
                if poll.outcome == "stored":
                    self._stored.add(poll.s3_source_key)

    def _missing(self, polls: Sequence[Poll], before: Sequence[Poll]) -> Iterator[Fault]:
        """Rows that others name, but that are not there; polls that were due between two rows that follow."""
        known = {poll.last_due_at: poll for poll in (*before, *polls)}
        for poll in polls:
            named = poll.previous_due_at
            if named is None or named.date() > poll.day:  # the clock was set back
                continue
            last = known.get(named)
            if last is None:
                if self._wanted(named.date()) and named.date() >= self._first_day:  # earlier days may be deleted
                    yield "polls_missing", named.date(), f"the poll that was due at {_time(named)} is not recorded"
            elif count := polls_between(last, poll.due_at, max(last.interval_seconds, poll.interval_seconds)):
                message = f"{count} polls were due between {_time(named)} and {_time(poll.due_at)}"
                yield "polls_missing", poll.day, f"{message}, and are not recorded"


def _doubled(polls: Sequence[Poll]) -> Iterator[Fault]:
    for due_at, times in Counter(poll.due_at for poll in polls).items():
        if times > 1:
            yield "polls_doubled", due_at.date(), f"the poll that was due at {_time(due_at)} is there {times} times"


def _wrong(polls: Sequence[Poll]) -> Iterator[Fault]:
    """Rows that no bikeflow writes."""
    for poll in polls:
        interval = dt.timedelta(seconds=poll.interval_seconds)
        if poll.polls < 1 or poll.last_due_at != poll.due_at + (poll.polls - 1) * interval:
            span = f"{_time(poll.due_at)} to {_time(poll.last_due_at)}, every {poll.interval_seconds:g} s"
            yield "polls_wrong", poll.day, f"{poll.polls} polls can't be due from {span}"


def _time(at: dt.datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
