"""What publications are made of: the partial results of whole months, and beside them those of the newest segments.

Snapshots arrive in the newest segment. It is left out of its month, whose results so change once per segment, not with
each snapshot. Segments follow each other in time as their names do, so that the newest ones can be joined later.

For each table of `sql/rollups`, `current_X` has one set of rows for each month, and the newest segments' own;
`settled_X` has what the months are made of: the rows of all other segments.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable

import duckdb

from bikeflow.warehouse.statements import rollups

NEWEST = 2
"""So many segments are left out: a late snapshot of the hour before costs no more than one of this hour."""

_MONTH = len("dt=YYYY-MM")


def create_rollups(run: Callable[..., object]) -> None:
    """The tables `current_X`, empty, and what keeps them current: months to be joined, and segments left out."""
    for table in rollups():
        run(f"CREATE TABLE partials.{table} AS FROM partials.{_settled(table)}")
    run("CREATE TABLE partials.stale (month VARCHAR)")
    run("CREATE TABLE partials.newest (segment VARCHAR)")


class Rollups:
    """Keeps the partial results of the months; its methods are to be called within a transaction of the caller's."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._newest = self._names("FROM partials.newest")
        self._stale = True  # there may be stale months: also after a rollback, so that only the table tells

    def table(self, name: str, segment: str) -> str:
        """The table for the partial results of a segment: of `settled_X`, those of the newest lie in `current_X`."""
        return _current(name) if segment in self._newest else name

    def changes(self, segment: str) -> None:
        """The partial results of this segment change: if it has settled, those of its month will have to."""
        if segment not in self._newest:
            self._connection.execute("INSERT INTO partials.stale VALUES ($1)", [segment[:_MONTH]])
            self._stale = True

    def leave_out(self, segments: Iterable[str]) -> None:
        """Let the newest among these be left out of their months, and no others."""
        newest = set(heapq.nlargest(NEWEST, segments))
        if newest == self._newest:
            return
        settling, reopened = self._newest - newest, newest - self._newest
        for table in rollups():
            self._move(table, _settled(table), settling)
            self._move(_settled(table), table, reopened)
        for segment in reopened:
            self.changes(segment)
        self._newest = newest
        for segment in settling:
            self.changes(segment)
        self._connection.execute("DELETE FROM partials.newest")
        self._connection.execute("INSERT INTO partials.newest SELECT unnest($1)", [list(newest)])

    def join(self) -> None:
        """Join the partial results of the months in which some have changed."""
        if not self._stale:
            return
        for month in self._names("SELECT DISTINCT month FROM partials.stale"):
            span = {"first_segment": month, "next_segment": f"{month}~"}
            for table, query in rollups().items():
                self._connection.execute(f"DELETE FROM partials.{table} WHERE segment = $1", [month])  # noqa: S608
                insert = f"INSERT INTO partials.{table} SELECT $month, * FROM (\n{query}\n)"  # noqa: S608
                self._connection.execute(insert, {"month": month, **span})
        self._connection.execute("DELETE FROM partials.stale")
        self._stale = False

    def _move(self, source: str, target: str, segments: Collection[str]) -> None:
        if segments:
            moved = "WHERE list_contains($1, segment)"
            self._connection.execute(f"INSERT INTO partials.{target} FROM partials.{source} {moved}", [list(segments)])
            self._connection.execute(f"DELETE FROM partials.{source} {moved}", [list(segments)])  # noqa: S608

    def _names(self, query: str) -> set[str]:
        return {name for (name,) in self._connection.execute(query).fetchall()}


def _settled(table: str) -> str:
    return table.replace("current_", "settled_")


def _current(table: str) -> str:
    return table.replace("settled_", "current_")
