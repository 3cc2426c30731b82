"""Coverage, kept up to date: when the state of each system is known, by its polls and raw files.

There are two ways. The sure way derives all of a system's coverage, by SQL. The quick way adds polls that are later
than all that is known, one after the other. Both give the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import duckdb

from bikeflow.core.model import UTC, Partition
from bikeflow.polls.poll import GOOD, Poll
from bikeflow.warehouse.statements import coverage, derived, poll_runs

_OF_SYSTEMS = "system_id IN (SELECT unnest($1))"
_OPEN_FILES = f"""(
SELECT system_id, dt, file_timestamp, file_timestamp > CAST(getvariable('latest_time') AS TIMESTAMP) AS is_future
FROM temp.open_raw_files
WHERE "rows" > 0 AND {_OF_SYSTEMS}
)"""
"""The raw files that gave rows, of open partitions."""
_FORGET_OPEN_FILES = f"""
DELETE FROM state.file_runs
WHERE {_OF_SYSTEMS} AND (system_id, dt) IN (SELECT (system_id, dt) FROM temp.open_raw_files)
"""
"""Later raw files may have changed what the earlier ones tell."""
_ENDS = """
SELECT
    system_id,
    min(began_at),
    arg_max({'at': last_at, 'known': known, 'reason': reason, 'hold_us': hold_us}, last_at),
    coalesce(list({'began_at': began_at, 'ended_at': ended_at}) FILTER (WHERE reason LIKE 'unrecorded%'), []),
FROM temp.runs
GROUP BY system_id
"""
_LAST = f"""
SELECT system_id, arg_max({{'began_at': began_at, 'ended_at': ended_at, 'known': known, 'reason': reason}}, ended_at)
FROM state.coverage
WHERE {_OF_SYSTEMS}
GROUP BY system_id
"""
_SINCE = f"""
WITH now AS (FROM state.coverage WHERE {_OF_SYSTEMS})
SELECT system_id, min(began_at)
FROM ((FROM now EXCEPT FROM temp.former) UNION ALL (FROM temp.former EXCEPT FROM now))
GROUP BY system_id
"""
_SNAPSHOTS = "SELECT oldest_snapshot, newest_snapshot FROM state.partitions WHERE (system_id, dt) = ($1, $2)"


@dataclass(frozen=True, slots=True)
class _Told:
    """What a poll tells (naive UTC): from when, whether the state is known, why not, and for how long at most."""

    at: dt.datetime
    known: bool
    reason: str | None
    holds: dt.timedelta


@dataclass(slots=True)
class _Interval:
    """A row of the table (naive UTC)."""

    began_at: dt.datetime
    ended_at: dt.datetime
    known: bool
    reason: str | None


@dataclass(slots=True)
class _End:
    """Where a system's coverage ends: its newest poll, and the newest interval.

    `first_at` is where its polls begin, `silent` when their record is lost.
    """

    first_at: dt.datetime
    silent: list[tuple[dt.datetime, dt.datetime]]
    told: _Told
    interval: _Interval | None


class Coverage:
    """The table `coverage` of an open working database, whose polls and runs of raw files are up to date."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._run = connection.execute
        self._ends: dict[str, _End] | None = None

    def update(
        self, added: Iterable[Poll], suspects: Collection[str], changed: Iterable[Partition]
    ) -> dict[str, dt.datetime]:
        """Take over polls that were added; `changed` are partitions whose raw files have changed.

        The `suspects` are systems that are to be derived from all that is known. Gives the systems whose coverage has
        changed, and from when on.
        """
        since: dict[str, dt.datetime] = {}
        if self._ends is None:
            self._ends = {}
            suspects = self._systems()
        unsure = set(suspects)
        polls: dict[str, list[_Told]] = {}
        for poll in added:
            polls.setdefault(poll.system_id, []).append(_told(poll))
        for system_id, told in polls.items():
            if system_id in unsure:
                continue
            until = self._add(system_id, sorted(told, key=lambda one: one.at))
            if until is None:
                unsure.add(system_id)
            else:
                since[system_id] = until
        unsure |= {partition.system_id for partition in changed if self._matters(partition)}
        if unsure:
            since |= self._derive(sorted(unsure))
        return since

    def _systems(self) -> set[str]:
        """All systems of which anything is known."""
        tables = ("poll_runs", "polls", "file_runs", "raw_files", "coverage")
        query = " UNION ".join(f"SELECT system_id FROM state.{table}" for table in tables)
        return {system_id for (system_id,) in self._run(query).fetchall()}

    def _add(self, system_id: str, polls: list[_Told]) -> dt.datetime | None:
        """The quick way: gives where coverage ended before; None, and nothing done, where this way is not open."""
        end = (self._ends or {}).get(system_id)
        if end is None or end.interval is None or end.interval.ended_at != end.told.at:
            return None
        if any(before.at >= after.at for before, after in pairwise([end.told, *polls])):
            return None
        if any(poll.reason and poll.reason.startswith("unrecorded") for poll in (end.told, *polls)):
            return None
        last, rows = end.interval, list[_Interval]()
        until = last.ended_at
        for poll in polls:
            for item in _pieces(end.told, poll.at):
                before = rows[-1] if rows else last
                if (before.known, before.reason) == (item.known, item.reason):
                    before.ended_at = item.ended_at
                else:
                    rows.append(item)
            end.told = poll
        self._run(
            "UPDATE state.coverage SET ended_at = $1 WHERE system_id = $2 AND began_at = $3",
            [last.ended_at, system_id, last.began_at],
        )
        for row in rows:
            values = [system_id, row.began_at, row.ended_at, row.known, row.reason]
            self._run("INSERT INTO state.coverage VALUES ($1, $2, $3, $4, $5, 'polls')", values)
        end.interval = rows[-1] if rows else last
        return until

    def _matters(self, partition: Partition) -> bool:
        """Whether raw files of a partition tell what polls do not."""
        end = (self._ends or {}).get(partition.system_id)
        found = self._run(_SNAPSHOTS, [partition.system_id, partition.day]).fetchone()
        if end is None or found is None:
            return True
        oldest, newest = found
        if oldest is None:
            return False
        within = any(began <= newest and oldest <= ended for began, ended in end.silent)
        return within or oldest < end.first_at or newest > end.told.at

    def _derive(self, systems: list[str]) -> dict[str, dt.datetime]:
        """The sure way; gives the systems whose coverage has changed, and from when on."""
        self._run(f"CREATE OR REPLACE TEMP TABLE former AS FROM state.coverage WHERE {_OF_SYSTEMS}", [systems])
        self._run(_FORGET_OPEN_FILES, [systems])
        self._run(f"INSERT INTO state.file_runs BY NAME {_file_runs()}", [systems])
        polls = poll_runs(f"(FROM temp.open_polls WHERE {_OF_SYSTEMS})")
        runs = f"FROM state.poll_runs WHERE {_OF_SYSTEMS} UNION ALL BY NAME {polls}"
        self._run(f"CREATE OR REPLACE TEMP TABLE runs AS {_closed(runs)}", [systems])
        self._run(f"DELETE FROM state.coverage WHERE {_OF_SYSTEMS}", [systems])
        query = coverage("temp.runs", f"(FROM state.file_runs WHERE {_OF_SYSTEMS})")
        self._run(f"INSERT INTO state.coverage BY NAME {query}", [systems])
        last = {name: _Interval(**row) for name, row in self._run(_LAST, [systems]).fetchall()}
        self._ends = {name: end for name, end in (self._ends or {}).items() if name not in systems}
        for name, first_at, told, silent in self._run(_ENDS).fetchall():
            holds = dt.timedelta(microseconds=told["hold_us"])
            end = _Told(told["at"], told["known"], told["reason"], holds)
            windows = [(row["began_at"], row["ended_at"]) for row in silent]
            self._ends[name] = _End(first_at, windows, end, last.get(name))
        return dict(self._run(_SINCE, [systems]).fetchall())


def _file_runs() -> str:
    return derived()["file_runs"].replace("temp.sources", _OPEN_FILES)


def _closed(runs: str) -> str:
    """Runs of polls, each of which lasts until the next one, on whatever day; the newest of all until its last poll."""
    return f"""
SELECT * REPLACE (coalesce(ended_at, lead(began_at) OVER in_time, last_at) AS ended_at), ended_at IS NULL AS is_last
FROM ({runs})
WINDOW in_time AS (PARTITION BY system_id ORDER BY began_at, last_at)
"""


def _told(poll: Poll) -> _Told:
    known = poll.outcome in GOOD
    at = (poll.finished_at or poll.due_at).replace(microsecond=0) if known else poll.due_at
    reason = None if known else ": ".join(filter(None, (poll.outcome, poll.reason)))
    return _Told(
        at.astimezone(UTC).replace(tzinfo=None), known, reason, dt.timedelta(seconds=2 * poll.interval_seconds)
    )


def _pieces(told: _Told, until: dt.datetime) -> Iterator[_Interval]:
    """What a poll tells of the time until the next one."""
    if told.known and until > told.at + told.holds:
        yield _Interval(told.at, told.at + told.holds, known=True, reason=None)
        yield _Interval(told.at + told.holds, until, known=False, reason="late")
    else:
        yield _Interval(told.at, until, known=told.known, reason=told.reason)
