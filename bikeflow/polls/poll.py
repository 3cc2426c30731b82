"""One row of the record of polls, and how a day's rows become a Parquet file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.model import UTC

PollOutcome = Literal[
    "stored", "unchanged", "not_modified", "failed", "not_a_feed", "lost", "skipped", "missed", "unrecorded"
]
"""How polls end.

`stored`: a new snapshot. `unchanged`: one with the same content as the last, `not_modified`: the server says so itself.
`failed`, `not_a_feed`: no usable answer. `lost`: it could not be kept. `skipped`: no request was made, though bikeflow
was running. `missed`: bikeflow was not running. `unrecorded`: the record of these polls is lost.
"""
GOOD = frozenset({"stored", "unchanged", "not_modified"})
"""The outcomes after which the state of the system is known."""
TOLERANCE = 0.1
"""A poll that comes later than it was due by so much of an interval is still that poll."""
UNREADABLE = (pa.ArrowException, OSError, KeyError, ValueError)
"""What reading a Parquet file that is no record of polls can raise."""

_TIME = pa.timestamp("us")
SCHEMA = pa.schema(
    [
        ("due_at", _TIME),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("status", pa.int64()),
        ("bytes", pa.int64()),
        ("attempts", pa.int64()),
        ("s3_source_key", pa.string()),
        ("polls", pa.int64()),
        ("last_due_at", _TIME),
        ("previous_due_at", _TIME),
        ("interval_seconds", pa.float64()),
    ]
)
_TIMES = [field.name for field in SCHEMA if field.type == _TIME]
_TEXTS = {"outcome", "reason", "error", "s3_source_key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A poll, or `polls` of them in a row that did not happen; times are UTC.

    `due_at` is when the first was due, `last_due_at` when the last was, `previous_due_at` when the last one of the row
    before was: None where the record begins. `interval_seconds` is the one in force. `reason` is a word for programs,
    `error` a sentence for people. `status` is the HTTP status of the last answer, `bytes` the size of the snapshot.
    `s3_source_key` is the raw file that has what the poll saw.
    """

    system_id: str
    due_at: dt.datetime
    last_due_at: dt.datetime
    previous_due_at: dt.datetime | None
    interval_seconds: float
    outcome: PollOutcome
    polls: int = 1
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    reason: str | None = None
    error: str | None = None
    status: int | None = None
    bytes: int | None = None
    attempts: int | None = None
    s3_source_key: str | None = None

    @property
    def day(self) -> dt.date:
        """The day (UTC) whose record it belongs to."""
        return self.due_at.astimezone(UTC).date()


def polls_between(last: Poll, due_at: dt.datetime, interval_seconds: float) -> int:
    """How many polls were due after `last` and before `due_at`."""
    since = (due_at - last.last_due_at).total_seconds()
    return max(int(since / interval_seconds - TOLERANCE), 0)


def not_polled(
    last: Poll, due_at: dt.datetime, interval_seconds: float, outcome: PollOutcome, reason: str
) -> Iterator[Poll]:
    """The rows of the polls that were due after `last` and before `due_at`: one for each day that they touch."""
    interval = dt.timedelta(seconds=interval_seconds)
    left = polls_between(last, due_at, interval_seconds)
    while left:
        first = last.last_due_at + interval
        midnight = dt.datetime.combine(first.date() + dt.timedelta(days=1), dt.time(), UTC)
        here = min(left, -((first - midnight) // interval))
        last = Poll(
            system_id=last.system_id,
            due_at=first,
            last_due_at=first + (here - 1) * interval,
            previous_due_at=last.last_due_at,
            interval_seconds=interval_seconds,
            outcome=outcome,
            polls=here,
            reason=reason,
        )
        left -= here
        yield last


def to_parquet(polls: Iterable[Poll]) -> bytes:
    """A Parquet file of the rows, in the order of their times."""
    rows = sorted(polls, key=lambda poll: poll.due_at)
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    for name in _TIMES:
        columns[name] = [value and value.astimezone(UTC).replace(tzinfo=None) for value in columns[name]]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, SCHEMA),
        sink,
        compression="zstd",
        use_dictionary=sorted(_TEXTS),
        column_encoding=dict.fromkeys(_TIMES, "DELTA_BINARY_PACKED"),
        store_schema=False,
    )
    return bytes(sink.getvalue().to_pybytes())


def from_parquet(system_id: str, data: bytes) -> list[Poll]:
    """The rows of a file that `to_parquet` wrote; raises one of `UNREADABLE`."""
    table = pq.ParquetFile(pa.BufferReader(data)).read().cast(SCHEMA)
    return polls_of(table.append_column("system_id", pa.repeat(system_id, len(table))))


def polls_of(table: pa.Table) -> list[Poll]:
    """The rows of a table with the columns of `SCHEMA` and `system_id`."""
    rows = table.select(["system_id", *SCHEMA.names]).to_pylist()
    for row in rows:
        row |= {name: row[name] and row[name].replace(tzinfo=UTC) for name in _TIMES}
    return [Poll(**row) for row in rows]
