"""The partial results of months, and those of the newest segments as they are.

Snapshots arrive in the newest segment. It is left out of its month, whose results so change once per segment, not with
each snapshot. Segments follow each other in time as their names do, so that the newest ones can be joined later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import duckdb

from bikeflow.warehouse.statements import rollups

NEWEST = 2
"""So many segments are left out: a late snapshot of the hour before costs no more than one of this hour."""

_MONTH = len("dt=YYYY-MM")
_END = "dt>"
"""Comes after the names of all segments."""


def create_rollups(run: Callable[..., object]) -> None:
    """The tables of `sql/rollups`, empty, and what keeps them current: segments that changed, and those left out."""
    for table, query in rollups().items():
        columns = f"SELECT '' AS segment, * FROM (\n{query}\n) LIMIT 0"  # noqa: S608
        run(f"CREATE TABLE partials.{table} AS {columns}", {"first_segment": "", "next_segment": ""})
    run("CREATE TABLE partials.stale (segment VARCHAR)")
    run("CREATE TABLE partials.left_out (segment VARCHAR)")


def roll_up(connection: duckdb.DuckDBPyConnection) -> None:
    """Join the partial results of the months in which some have changed; a transaction of the caller's."""
    changed = _segments(connection, "SELECT DISTINCT segment FROM partials.stale")
    if not changed:
        return
    former = _segments(connection, "FROM partials.left_out")
    newest = _segments(connection, "SELECT segment FROM partials.applied ORDER BY segment DESC LIMIT $1", NEWEST)
    if newest == former and changed <= newest:
        _delete(connection, changed)
        _copy(connection, changed)
    else:
        months = {segment[:_MONTH] for segment in changed | (former ^ newest)}
        _delete(connection, months | former)
        for month in months:
            _join(connection, month, min(newest, default=_END))
        _copy(connection, newest)
        connection.execute("DELETE FROM partials.left_out")
        connection.execute("INSERT INTO partials.left_out SELECT unnest($1)", [list(newest)])
    connection.execute("DELETE FROM partials.stale")


def _segments(connection: duckdb.DuckDBPyConnection, query: str, *parameters: object) -> set[str]:
    return {segment for (segment,) in connection.execute(query, parameters or None).fetchall()}


def _delete(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    for table in rollups():
        connection.execute(f"DELETE FROM partials.{table} WHERE list_contains($1, segment)", [list(names)])  # noqa: S608


def _join(connection: duckdb.DuckDBPyConnection, month: str, first_left_out: str) -> None:
    span = {"first_segment": month, "next_segment": min(f"{month}~", first_left_out)}
    for table, query in rollups().items():
        insert = f"INSERT INTO partials.{table} SELECT $month, * FROM (\n{query}\n)"  # noqa: S608
        connection.execute(insert, {"month": month, **span})


def _copy(connection: duckdb.DuckDBPyConnection, segments: Iterable[str]) -> None:
    for table in rollups():
        source = table.replace("month_", "segment_")
        insert = f"INSERT INTO partials.{table} FROM partials.{source} WHERE list_contains($1, segment)"
        connection.execute(insert, [list(segments)])
