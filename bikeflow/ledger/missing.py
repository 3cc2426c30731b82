"""Raw files that were known and are not in the store any more, and whether what was made of them may go.

A few that are gone were deleted by somebody: what was made of them goes, too. More than a few are an accident, such as
a lifecycle rule or a wrong sync: they are *held*, which keeps what was made of them until they return or the operator
forgets them. Many small losses are a large one: those that went lately count as well, and all days count together.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from bikeflow.core.layout import Layout, day_of
from bikeflow.core.model import UTC, FileRecord, Segment
from bikeflow.core.scope import Scope
from bikeflow.ledger.database import Database, text
from bikeflow.ledger.files import identity, segment_from
from bikeflow.settings.sections import WatcherSettings

REMEMBERED = dt.timedelta(days=30)
"""For so long, files that went count beside those that disappear now."""
_PERCENT = 100
EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Missing:
    """The raw files that are held: how many of how many days, the first and last key, and since when."""

    count: int
    days: int
    first: str
    last: str
    since: dt.datetime

    @property
    def where(self) -> str:
        """Their days and keys, for people."""
        days = "1 day" if self.days == 1 else f"{self.days:,} days"
        return f"{days}, from {self.first} to {self.last}"

    @property
    def reason(self) -> str:
        """What is wrong and what to do, in words for people."""
        files = "1 raw file is" if self.count == 1 else f"{self.count:,} raw files are"
        return (
            f"{files} missing from the store ({self.where}); what was made of them is kept: bring them back, or"
            " `bikeflow forget` removes it"
        )


class MissingFiles:
    """The missing raw files of one system."""

    def __init__(self, database: Database, layout: Layout, settings: WatcherSettings) -> None:
        self._database = database
        self._layout = layout
        self._settings = settings
        self.suspected = False
        """A run has found that raw files are gone: a reconciliation is due."""

    def judge(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Of raw files that are not in the store: those that go, with what was made of them, and those that are held.

        Once one is held, all that follow are: only their return, or the operator, ends that.
        """
        wanted, now = sorted(set(keys)), dt.datetime.now(UTC)
        if not wanted:
            return [], []
        system, among = {"system_id": self._system_id}, {"system_id": self._system_id, "keys": json.dumps(wanted)}
        with self._database.transaction() as transaction:
            known = {row["key"] for row in transaction.run("missing_among", **among)}
            new = [key for key in wanted if key not in known]
            transaction.run("forget_old_missing", **system, before=text(now - REMEMBERED))
            transaction.run_many(
                "add_missing", [{**system, "key": key, "day": day_of(key).isoformat(), "now": text(now)} for key in new]
            )
            totals = transaction.run("missing_totals", **system).fetchone()
            few = max(self._settings.forget_files, totals["had"] * self._settings.forget_percent / _PERCENT)
            if totals["held"] or totals["files"] > few:
                transaction.run("hold_missing", **system, keys=json.dumps(new))
            held = {row["key"] for row in transaction.run("missing_among", **among) if row["state"] == "held"}
        return [key for key in wanted if key not in held], [key for key in wanted if key in held]

    def hold(self, segment: Segment, records: Sequence[FileRecord]) -> None:
        """Enter held raw files that a lost ledger knows no more, as the footer of their segment tells of them."""
        place = identity(segment)
        start = dt.datetime.combine(segment.partition.day, segment.start, UTC)
        with self._database.transaction() as transaction:
            for record in records:
                time = text(self._layout.snapshot_time(record.key) or start)
                transaction.run("hold_raw_file", **place, **asdict(record), time=time, now=text(dt.datetime.now(UTC)))

    def held(self) -> frozenset[str]:
        """The keys of those that are held."""
        return frozenset(row["key"] for row in self._database.rows("held", **self._days(EVERYTHING)))

    def segments(self) -> set[Segment]:
        """The segments in which rows of those that are held lie."""
        rows = self._database.rows("held_segments", system_id=self._system_id)
        return {segment_from(row, self._system_id) for row in rows}

    def summary(self, scope: Scope = EVERYTHING) -> Missing | None:
        """What is held of these days, or None where nothing is."""
        row = self._database.row("held_summary", **self._days(scope))
        if row is None or not row["files"]:
            return None
        since = dt.datetime.fromisoformat(row["since"])
        return Missing(row["files"], row["days"], row["first_key"], row["last_key"], since)

    def forget(self, scope: Scope) -> int:
        """The operator knows that raw files of these days are gone: what was made of them goes. Gives their number."""
        days = self._days(scope)
        with self._database.transaction() as transaction:
            keys = [row["key"] for row in transaction.run("held", **days)]
            for key in keys:
                for row in transaction.run("forget_raw_file", system_id=self._system_id, key=key).fetchall():
                    segment = {"system_id": self._system_id, "day": row["day"], "end": row["segment_end"]}
                    transaction.run("want_known_segment", **segment)
            transaction.run("forget_missing", **days, now=text(dt.datetime.now(UTC)))
        return len(keys)

    @property
    def _system_id(self) -> str:
        return self._layout.system_id

    def _days(self, scope: Scope) -> dict[str, str]:
        return {"system_id": self._system_id, "first": scope.first.isoformat(), "last": scope.last.isoformat()}
