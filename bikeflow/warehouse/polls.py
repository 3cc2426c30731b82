"""The record of polls in the working database: the rows of open days, and what each day's polls tell of coverage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import duckdb
import pyarrow as pa

from bikeflow.core.model import Partition
from bikeflow.polls.poll import SCHEMA, Poll
from bikeflow.warehouse.coverage import Coverage
from bikeflow.warehouse.moved import MovedRows
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.statements import HIVE_TYPES, pattern, poll_runs, quoted

_ROWS = pa.schema([("number", pa.int64()), ("system_id", pa.string()), ("dt", pa.date32()), *SCHEMA])
FEW = 4
"""So many rows are inserted one by one."""
_OF_THESE = "(system_id, dt) IN (SELECT (unnest($1), unnest($2)))"


class PollSource(Protocol):
    """Where polls come from: rows, numbered as they came, and the files of days that are closed."""

    @property
    def identity(self) -> str:
        """What tells these numbers from those of another source."""
        ...

    @property
    def changes(self) -> int:
        """How often `copies` has changed."""
        ...

    @property
    def copies(self) -> Mapping[Partition, Path]:
        """The file of each closed day."""
        ...

    def since(self, number: int) -> Mapping[int, Poll]:
        """The rows after this number."""
        ...


class NoPolls:
    """A source without any polls."""

    identity = ""
    changes = 0
    copies: Mapping[Partition, Path] = MappingProxyType({})

    def since(self, number: int) -> Mapping[int, Poll]:
        """None."""
        return {}


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables `polls`, `poll_days` (files of closed days), `poll_runs` of these, and the others, empty."""
    connection.register("no_polls", _ROWS.empty_table())
    connection.execute("CREATE TABLE state.polls AS FROM no_polls")
    connection.execute(f"CREATE TABLE state.poll_runs AS {poll_runs('state.polls')}")
    connection.unregister("no_polls")
    connection.execute("CREATE TABLE state.poll_days (system_id VARCHAR, dt DATE, file VARCHAR)")
    connection.execute("CREATE TABLE state.poll_source (identity VARCHAR, number BIGINT)")
    connection.execute(
        "CREATE TABLE state.coverage (system_id VARCHAR, began_at TIMESTAMP, ended_at TIMESTAMP, known BOOLEAN,"
        " reason VARCHAR, source VARCHAR)"
    )


class PollTables:
    """These tables of an open working database, kept up to date with `source`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: PollSource, moved: MovedRows) -> None:
        self._run = connection.execute
        self._moved = moved
        self._connection = connection
        self._source = source
        self._coverage = Coverage(connection)
        newest = self._run("SELECT system_id, max(due_at) FROM temp.open_polls GROUP BY system_id").fetchall()
        self._newest: dict[str, dt.datetime] = {name: at.replace(tzinfo=dt.UTC) for name, at in newest}
        self._changes: int | None = None
        self.copies: Mapping[Partition, Path] = {}
        """The files of closed days."""
        self.files: tuple[str, ...] = ()
        """The same, the newest first, as patterns."""

    def update(self, partitions: Collection[Partition]) -> tuple[set[str], dict[str, dt.datetime]]:
        """Take over what came since, in a transaction of the caller.

        Gives the systems of which anything has changed, and those whose coverage has changed, and from when on.

        `partitions` are those whose raw files have changed: coverage follows from them, too.
        """
        number = self._number()
        rows = self._source.since(number)
        changed, gone = self._take_copies()
        if rows:
            self._insert(rows)
            self._run("UPDATE state.poll_source SET number = $1", [max(rows)])
        closed = changed.keys() | ({Partition(poll.system_id, poll.day) for poll in rows.values()} & self.copies.keys())
        self._forget("polls", closed)  # what lies in a file need not lie here
        if closed:
            self._moved.forget_polls(closed)
        self._forget("poll_runs", changed.keys() | gone)
        if changed:
            files = "[" + ", ".join(quoted(pattern(path)) for path in changed.values()) + "]"
            read = f"read_parquet({files}, hive_partitioning = true, {HIVE_TYPES})"
            self._run(f"INSERT INTO state.poll_runs BY NAME {poll_runs(read)}")
        suspects = {partition.system_id for partition in (*changed, *gone, *closed)}
        since = self._coverage.update(rows.values(), suspects, partitions)
        changed_systems = (
            suspects | {poll.system_id for poll in rows.values()} | {item.system_id for item in partitions}
        )
        return changed_systems, since

    def _number(self) -> int:
        """The number of the last row that is known of this source; of another one nothing is."""
        known = self._run("SELECT identity, number FROM state.poll_source").fetchall()
        if known and known[0][0] == self._source.identity:
            return int(known[0][1])
        self._newest = {}
        for table in ("polls", "poll_days", "poll_runs", "poll_source"):
            self._run(f"DELETE FROM state.{table}")
        self._moved.forget_polls()
        self._run("INSERT INTO state.poll_source VALUES ($1, 0)", [self._source.identity])
        return 0

    def _take_copies(self) -> tuple[dict[Partition, Path], set[Partition]]:
        """Note the files of closed days; gives those that are new, and the days whose file is gone."""
        if self._source.changes == self._changes:
            return {}, set()
        self._changes, self.copies = self._source.changes, self._source.copies
        newest_first = sorted(self.copies, key=lambda partition: (partition.day, partition.system_id), reverse=True)
        self.files = tuple(pattern(self.copies[partition]) for partition in newest_first)
        taken = {Partition(*row[:2]): row[2] for row in self._run("FROM state.poll_days").fetchall()}
        changed = {partition: path for partition, path in self.copies.items() if taken.get(partition) != str(path)}
        gone = taken.keys() - self.copies.keys()
        self._forget("poll_days", changed.keys() | gone)
        if changed:
            columns = [*_keys(changed), [str(path) for path in changed.values()]]
            self._run("INSERT INTO state.poll_days SELECT unnest($1), unnest($2), unnest($3)", columns)
        return changed, gone

    def _forget(self, table: str, partitions: Collection[Partition]) -> None:
        if partitions:
            self._run(f"DELETE FROM state.{table} WHERE {_OF_THESE}", _keys(partitions))

    def _insert(self, rows: Mapping[int, Poll]) -> None:
        """Add rows; one that was due at the same time as another of the system takes its place."""
        doubtful = [poll for poll in rows.values() if not self._is_newer(poll)]
        if doubtful:
            self._moved.take_back_polls({Partition(poll.system_id, poll.day) for poll in doubtful})
            keys = [[poll.system_id for poll in doubtful], [_naive(poll.due_at) for poll in doubtful]]
            self._run("DELETE FROM state.polls WHERE (system_id, due_at) IN (SELECT (unnest($1), unnest($2)))", keys)
        if len(rows) <= FEW:  # a fraction of what a table takes
            values = ", ".join(f"${name}" for name in _ROWS.names)
            for number, poll in rows.items():
                self._run(f"INSERT INTO state.polls VALUES ({values})", _values(number, poll))
            return
        self._connection.register("new_polls", pa.Table.from_pylist([_values(*item) for item in rows.items()], _ROWS))
        try:
            self._run("INSERT INTO state.polls BY NAME FROM new_polls")
        finally:
            self._connection.unregister("new_polls")

    def _is_newer(self, poll: Poll) -> bool:
        """Whether no poll of the system is known that was due at that time or later; from now on this one is."""
        newest = self._newest.get(poll.system_id)
        if newest is not None and poll.due_at <= newest:
            return False
        self._newest[poll.system_id] = poll.due_at
        return True


def empty_polls(root: Path) -> Path:
    """A file without polls, in the folder of the copies: it gives the schema; made where it is missing."""
    path = root / "system_id=-/dt=0001-01-01/empty.parquet"
    write_empty(path, SCHEMA)
    return path


def _values(number: int, poll: Poll) -> dict[str, object]:
    own = {name: _naive(getattr(poll, name)) for name in SCHEMA.names}
    return {"number": number, "system_id": poll.system_id, "dt": poll.day, **own}


def _naive(value: object) -> object:
    return value.astimezone(dt.UTC).replace(tzinfo=None) if isinstance(value, dt.datetime) else value


def _keys(partitions: Collection[Partition]) -> list[list[object]]:
    return [[partition.system_id for partition in partitions], [partition.day for partition in partitions]]
