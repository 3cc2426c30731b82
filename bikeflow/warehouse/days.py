"""What is derived from whole days that are sealed, and from their coverage: it is summed up once, and kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

import duckdb

from bikeflow.core.model import Partition
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.statements import HIVE_TYPES, quoted

_DAY = dt.timedelta(days=1)
_BATCH = 64
"""So many days are read at a time."""
_OF_THESE = "(system_id, dt) IN (SELECT (unnest($1), unnest($2)))"
_DAYS = "FROM state.station_days('temp.day_changes', 'working.state.coverage')"
_ENDS = """
CREATE OR REPLACE TEMP TABLE day_ends AS
FROM state.spans WHERE (system_id, dt) IN (SELECT (unnest($1), unnest($2) - 1))
"""
"""What was seen on the days before."""
_FORGET_TOTALS = "DELETE FROM state.station_totals WHERE system_id IN (SELECT unnest($1))"
_TOTALS = """
INSERT INTO state.station_totals BY NAME
SELECT system_id, station_id, sum(COLUMNS('_us$'))
FROM state.station_days
WHERE system_id IN (SELECT unnest($1))
GROUP BY system_id, station_id
"""


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables `station_days`, `station_totals` and `days` (those that are in both), empty."""
    run = connection.execute
    run("CREATE TEMP VIEW day_changes AS SELECT *, dt + 1 AS next_dt FROM working.state.station_changes")
    run(f"CREATE TABLE state.station_days AS {_DAYS} LIMIT 0")
    run("CREATE TABLE state.station_totals AS SELECT * EXCLUDE (dt, docks) FROM state.station_days")
    run("CREATE TABLE state.days (system_id VARCHAR, dt DATE)")


def forget(connection: duckdb.DuckDBPyConnection, partitions: Collection[Partition]) -> None:
    """Let these days be summed up again; in a transaction of the caller."""
    if partitions:
        for table in ("station_days", "days"):
            connection.execute(f"DELETE FROM state.{table} WHERE {_OF_THESE}", _columns(partitions))


def show_log(connection: duckdb.DuckDBPyConnection, kept: KeptFiles, files: Mapping[Partition, str]) -> None:
    """Let `temp.day_changes` be the log of changes of these sealed days, which have these files in the mirror."""
    listed = ", ".join(quoted(kept.pattern("station_changes", file)) for file in files.values())
    connection.execute(_ENDS, _columns(files))
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW day_changes AS SELECT *, dt + 1 AS next_dt FROM ("
        f"FROM read_parquet([{listed}], hive_partitioning = true, {HIVE_TYPES}) WHERE NOT is_last"
        f" UNION ALL BY NAME FROM state.last_states('temp.day_ends'))"
    )


class Days:
    """These tables of an open working database, kept up to date."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, kept: KeptFiles) -> None:
        self._connection = connection
        self._kept = kept
        self._known: set[Partition] | None = None
        self._sealed: Mapping[Partition, str] = {}

    def update(
        self, sealed: Mapping[Partition, str], changed: Iterable[Partition], since: Mapping[str, dt.datetime]
    ) -> set[Partition]:
        """Take over what has changed, in a transaction of the caller; gives the days that were summed up or forgotten.

        `sealed` has the file in the mirror of each sealed partition, `changed` are those that were read or removed, and
        `since` tells from when on a system's coverage has changed.
        """
        due, systems = set(changed), set[str]()
        if self._known is None:
            self._known = {Partition(*row) for row in self._connection.execute("FROM state.days").fetchall()}
            systems |= {item.system_id for item in (*self._known, *sealed, *due)}
        if sealed != self._sealed:
            due |= self._known ^ sealed.keys()
            self._sealed = dict(sealed)
        # a day begins with the last states of the one before
        due |= {Partition(item.system_id, item.day + _DAY) for item in due if item.day < dt.date.max}
        due |= {item for item in sealed if item.system_id in since and item.day >= since[item.system_id].date()}
        old, new = due & self._known, due & sealed.keys()
        forget(self._connection, old)
        self._read({partition: sealed[partition] for partition in sorted(new)})
        self._known = (self._known - old) | new
        systems |= {item.system_id for item in old | new}
        if systems:
            self._connection.execute(_FORGET_TOTALS, [sorted(systems)])
            self._connection.execute(_TOTALS, [sorted(systems)])
        return old | new

    def _read(self, files: Mapping[Partition, str]) -> None:
        run, remaining = self._connection.execute, iter(files.items())
        while some := dict(islice(remaining, _BATCH)):
            run("INSERT INTO state.days SELECT unnest($1), unnest($2)", _columns(some))
            show_log(self._connection, self._kept, some)
            run(f"INSERT INTO state.station_days BY NAME {_DAYS}")


def _columns(partitions: Iterable[Partition]) -> list[list[object]]:
    some = list(partitions)
    return [[item.system_id for item in some], [item.day for item in some]]
