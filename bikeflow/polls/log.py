"""The record of polls on this machine: a SQLite file in `data_dir` that a kill leaves whole."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bikeflow.core.model import UTC, Partition
from bikeflow.ledger.database import Database
from bikeflow.polls.poll import Poll

FILE_NAME = "polls.sqlite"
END_OF_TIME = dt.datetime.max.replace(tzinfo=UTC)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_DAY = dt.timedelta(days=1)
_TIMES = ("due_at", "last_due_at", "previous_due_at", "started_at", "finished_at")


class PollLog:
    """The rows of all systems that are not closed in the lake yet, and the newest of each.

    Its methods are short and block; they raise `Transient` where the disk fails. A row is added by one transaction, and
    so survives the death of the process; one that a power cut takes is missing as if the disk were lost.
    """

    def __init__(self, data_dir: Path, *, read_only: bool = False, at_rest: bool = False) -> None:
        path = data_dir / FILE_NAME
        self._database = Database(path, package="bikeflow.polls", read_only=read_only, at_rest=at_rest)
        self._copies: dict[str, Mapping[dt.date, Path]] = {}
        self.changes = 0
        """How often copies have changed."""

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def identity(self) -> str:
        """What tells this file from another: in a new one, rows are numbered from the beginning again."""
        return str(self._database.rows("identity")[0]["id"])

    @property
    def copies(self) -> dict[Partition, Path]:
        """The copy of each closed day on this machine, as far as the archives know."""
        found = dict(self._copies)
        return {Partition(name, day): path for name, copies in found.items() for day, path in copies.items()}

    def copies_of(self, system_id: str) -> Mapping[dt.date, Path]:
        """The copies of a system's closed days."""
        return self._copies.get(system_id, {})

    def set_copies(self, system_id: str, copies: Mapping[dt.date, Path]) -> None:
        """These are the copies of a system's closed days now."""
        self._copies[system_id] = copies
        self.changes += 1

    def add(self, polls: Iterable[Poll]) -> None:
        """Add rows; one that was due at the same time as another takes its place."""
        with self._database.transaction() as transaction:
            transaction.run_many("add_poll", map(_values, polls))

    def adopt(self, polls: Iterable[Poll]) -> None:
        """Add those rows, of the lake, that are unknown here."""
        with self._database.transaction() as transaction:
            transaction.run_many("adopt_poll", map(_values, polls))

    def newest(self, system_id: str) -> Poll | None:
        """The newest row of a system."""
        return _poll(self._database.row("newest_poll", system_id=system_id))

    def first(self, system_id: str) -> Poll | None:
        """The row with which a system's record begins, where that is here: it has no predecessor."""
        return _poll(self._database.row("first_poll", system_id=system_id))

    def stored_as(self, system_id: str, key: str) -> Poll | None:
        """The row of the snapshot that was to be stored under this key."""
        return _poll(self._database.row("stored_as", system_id=system_id, key=key))

    def open_days(self, system_id: str) -> dict[dt.date, bool]:
        """The days of a system that are not closed in the lake, and whether any row is not there yet."""
        rows = self._database.rows("open_days", system_id=system_id)
        return {_EPOCH.date() + row["day"] * _DAY: row["unsent"] > 0 for row in rows}

    def of_day(self, system_id: str, day: dt.date, until: dt.datetime = END_OF_TIME) -> dict[int, Poll]:
        """The rows of a day that ended before `until`, by their numbers."""
        midnight = dt.datetime.combine(day, dt.time(), UTC)
        times = {"first": midnight, "next": midnight + _DAY, "until": until}
        bounds = {name: _microseconds(at) for name, at in times.items()}
        rows = self._database.rows("polls_of_day", system_id=system_id, **bounds)
        return {row["number"]: _read(row) for row in rows}

    def since(self, number: int) -> dict[int, Poll]:
        """All rows after this number, by their numbers."""
        return {row["number"]: _read(row) for row in self._database.rows("polls_since", number=number)}

    def sent(self, numbers: Iterable[int]) -> None:
        """These rows are in the lake now."""
        with self._database.transaction() as transaction:
            transaction.run("mark_sent", numbers=json.dumps(list(numbers)), sent=1)

    def close_day(self, system_id: str, numbers: Sequence[int]) -> None:
        """These rows of a system, a whole day's, are in the lake and on this machine: they are not needed here."""
        with self._database.transaction() as transaction:
            transaction.run("forget_polls", numbers=json.dumps(numbers), system_id=system_id)
            transaction.run("mark_sent", numbers=json.dumps(numbers), sent=2)


def _values(poll: Poll) -> Mapping[str, object]:
    values = asdict(poll)
    for name in _TIMES:
        values[name] = values[name] and _microseconds(values[name])
    return values


def _microseconds(at: dt.datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _poll(row: sqlite3.Row | None) -> Poll | None:
    return None if row is None else _read(row)


def _read(row: sqlite3.Row) -> Poll:
    values = {name: row[name] for name in row.keys() if name not in ("number", "sent")}  # noqa: SIM118 - a Row
    for name in _TIMES:
        values[name] = None if values[name] is None else _EPOCH + values[name] * _MICROSECOND
    return Poll(**values)
