"""The working database: what has been derived from the enhanced layer, partition by partition.

It is never published and can be thrown away at any time. There are two ways to bring a partition up to date. The sure
way reads all of its files. The quick way adds the rows of raw files that are later than all that the partition knows:
so an arriving snapshot costs the same at the end of a day as at its beginning. Both give the same tables.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from bikeflow.core.model import FileRecord, Partition, Segment
from bikeflow.core.schema import ADDED
from bikeflow.runtime.files import remove, set_aside
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse import days, forecasts, history, opening, polls, usual
from bikeflow.warehouse.current import FORMER_ROWS, CurrentRows
from bikeflow.warehouse.facts import create_tables
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.moved import MovedRows
from bikeflow.warehouse.parquet import raw_file_records
from bikeflow.warehouse.statements import (
    HIVE_TYPES,
    KEPT,
    OF_CHANGED_SYSTEMS,
    bookkeeping,
    derived,
    macros,
    merges,
    quoted,
    readings,
    stamp,
)

SAVED_BYTES = 8 * 1024 * 1024
"""What was derived from so many bytes of files is saved: a crash costs reading so much again."""
SAVED_CHANGES = 64
"""So many changes are saved, too, however small: DuckDB keeps the rows that they replaced in memory until then."""
BLOCK_BYTES = 16_384
"""The smallest that DuckDB knows: its usual ones take a quarter of a megabyte in memory for each column of a table that
is added to, and as much in a file for each small table."""

_LOG_COLUMNS = """
system_id VARCHAR, dt DATE, station_id VARCHAR, began_at TIMESTAMP, ordinal BIGINT, bikes BIGINT,
spaces BIGINT, total_docks BIGINT, is_there BOOLEAN, is_last BOOLEAN
"""
"""What a log has, which goes on from what it tells already."""
_LOG = """
WITH log AS (
{log}
)
SELECT * EXCLUDE (system_id, dt) FROM log
UNION ALL BY NAME
SELECT * EXCLUDE (system_id, dt, ordinal) REPLACE (true AS is_last)
FROM (
    SELECT unnest(max_by(log, (began_at, ordinal))) FROM log WHERE station_id IS NOT NULL GROUP BY station_id
)
WHERE is_there
"""
"""The log of a day, and the last states in it."""
_NEVER = dt.datetime(9999, 12, 31)  # noqa: DTZ001 - naive, as all times in DuckDB
_CHANGED = "SELECT system_id, dt, bool_and(is_added) FROM state.changed GROUP BY ALL"

Contents = Mapping[Segment, str]
"""The files (paths below the mirror's root) that a partition consists of, by segment."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What new raw files gave to a partition, which lies in `files` now: their rows and their records."""

    files: Contents
    rows: Sequence[pa.Table]
    records: Sequence[FileRecord]


class DamagedFiles(Exception):
    """Files of the mirror that can't be read as the enhanced layer, with the reasons."""

    def __init__(self, reasons: Mapping[Segment, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


class WorkingDatabase:
    """An open `working.duckdb` with its tables, in the schema `state`; raises duckdb.Error.

    One of another version is emptied. The file is that of the last `CHECKPOINT`: there is no write-ahead log, as what a
    crash loses is only read again.
    """

    def __init__(
        self, path: Path, settings: WarehouseSettings, mirror: Path, empty: Path, kept: KeptFiles, moved_rows: MovedRows
    ) -> None:
        self._path = path
        self._settings = settings
        self._mirror = mirror
        self._empty = empty
        self._kept = kept
        self._moved = moved_rows
        self._unsaved_changes = self._unsaved_bytes = 0
        self._threads = settings.threads
        self._settled = False
        self.connection = self._connect()
        try:
            if self._stamp() != stamp():
                self.connection.close()
                discard(path)
                self.connection = self._connect()
                self._create()
            kept.open(self.connection)
            self._current = CurrentRows(self.connection)
            self._contents = self._applied()
            self._changed = {
                Partition(*key): is_added for *key, is_added in self.connection.execute(_CHANGED).fetchall()
            }
            for partition in moved_rows.open(self.connection):
                self.forget(partition)
            self.set_latest_time(_NEVER)
        except BaseException:
            self.connection.close()
            raise

    @property
    def contents(self) -> Mapping[Partition, Contents]:
        """The files that what is known of each partition was derived from."""
        return self._contents

    def set_threads(self, threads: int) -> None:
        """How many threads work from now on."""
        if threads != self._threads:
            self.connection.execute(f"SET threads = {threads}")
            self._threads = threads

    def set_latest_time(self, at: dt.datetime) -> set[Partition]:
        """Let snapshots later than this (naive UTC) be dated in the future; gives the partitions to be read again.

        Those are partitions with a snapshot whose time has come, or whose newest one is dated in the future now.
        """
        self.connection.execute("SET VARIABLE latest_time = $1", [at])
        query = "SELECT system_id, dt FROM state.partitions WHERE future_at <= $1 OR newest_snapshot > $1"
        return {Partition(*row) for row in self.connection.execute(query, [at]).fetchall()}

    def read(self, partition: Partition, files: Contents) -> None:
        """The sure way: derive everything of the partition from all of its files. Raises DamagedFiles."""
        try:
            with transaction(self.connection):
                self._forget(partition)
                with self._reading_files(partition, files.values()):
                    self._insert(files)
                    self._current.take()
                self._note({partition: files})
        except duckdb.Error:
            self._probe(files)
            raise
        self._contents[partition] = dict(files)
        self._changed[partition] = False
        self._save_some(sum((self._mirror / file).stat().st_size for file in files.values()))

    def add(self, additions: Mapping[Partition, Addition]) -> set[Partition]:
        """The quick way: add the rows of new raw files to their partitions; gives those that must be read whole.

        Only rows can be added whose snapshots are later than all that the partition knows, not dated in the future, and
        in the folder of their own day. The newest one that it knows must be the newest of its system: then its rows are
        at hand, and what changed since then can be told.
        """
        with transaction(self.connection):
            with self._reading_rows(additions):
                unfit = self._unfit()
                if not unfit:
                    for partition in additions:
                        self._reset_totals(partition)
                        if partition not in self._contents or following(partition) in self._contents:
                            self._settled = False
                    for table, merge in merges().items():
                        self.connection.execute(merge.replace("{added}", derived()[table]))
                    self._current.take()
            if not unfit:
                self._note({partition: addition.files for partition, addition in additions.items()})
                self._note_change(additions, is_added=True)
        if unfit:
            fit = {partition: addition for partition, addition in additions.items() if partition not in unfit}
            return unfit | (self.add(fit) if fit else set())
        self._contents |= {partition: dict(addition.files) for partition, addition in additions.items()}
        self._changed = dict.fromkeys(additions, True) | self._changed
        self._save_some(sum(rows.nbytes for addition in additions.values() for rows in addition.rows))
        return unfit

    def forget(self, partition: Partition) -> None:
        """Remove what is known of a partition."""
        with transaction(self.connection):
            self._forget(partition)
        self._contents.pop(partition, None)
        self._changed[partition] = False

    def settle(self, sealed: Mapping[Partition, bool]) -> None:
        """Bring up to date what is derived from several partitions; `sealed` tells of each whether it is.

        The spans of all partitions before a system's first open one are joined once, and kept.
        """
        if self._settled:
            return
        with transaction(self.connection) as run:
            self._current.restore(self._view_of_days)
            self._end_days(sealed)
            bounds = _first_open_days(sealed)
            known = dict(run("SELECT system_id, dt FROM state.joined_until").fetchall())
            for system_id, day in bounds.items():
                if known.get(system_id) != day:
                    self._join_totals(system_id, day)
        self._settled = True

    def move(self) -> set[str]:
        """Move rows of open days to files if there are many; gives the systems, all of which may then have changed."""
        with transaction(self.connection):
            self._moved.settle()
            has_moved = self._moved.move()
        if not has_moved:
            return set()
        self.connection.execute("CHECKPOINT working")  # until then DuckDB keeps what has gone
        self._unsaved_changes = self._unsaved_bytes = 0
        return {partition.system_id for partition in self._contents}

    @contextlib.contextmanager
    def taking_over(self) -> Iterator[Mapping[Partition, bool]]:
        """In a transaction, bring up to date what follows from the partitions that have changed since this was done.

        Of each it is told whether it only had later snapshots added.
        """
        with transaction(self.connection) as run:
            yield self._changed
            run("DELETE FROM state.changed")
        self._changed = {}

    def close(self) -> None:
        """Close the file; all is saved in it."""
        self.connection.close()

    def _unfit(self) -> set[Partition]:
        """The partitions that what is being read can't be added to."""
        rows = self.connection.execute(
            "SELECT system_id, dt FROM temp.sources LEFT JOIN state.partitions AS known USING (system_id, dt)"
            " LEFT JOIN (SELECT DISTINCT system_id, dt, s3_source_key AS former_key FROM temp.former_rows)"
            " USING (system_id, dt) WHERE is_future OR CAST(file_timestamp AS DATE) <> dt"
            " OR file_timestamp <= known.newest_snapshot OR known.newest_source_key IS DISTINCT FROM former_key"
        ).fetchall()
        return {Partition(*row) for row in rows}

    def _insert(self, files: Contents) -> None:
        """Store what is derived from what is being read; of a sealed day the `KEPT` rows in files."""
        sealed = is_sealed(files)
        if sealed:
            (relative,) = files.values()
            self._kept.write(self.connection, relative, {name: _kept_query(name) for name in KEPT})
        for table, query in derived().items():
            if not (sealed and table in KEPT):
                self.connection.execute(f"INSERT INTO state.{table} BY NAME {query}")

    def _note(self, contents: Mapping[Partition, Contents]) -> None:
        """Remember which files partitions were derived from."""
        rows = [
            (partition.system_id, partition.day, f"{segment.start:%H%M%S}-{segment.end:%H%M%S}", file)
            for partition, files in contents.items()
            for segment, file in files.items()
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        self._delete("applied", contents)
        self.connection.execute(
            "INSERT INTO state.applied SELECT unnest($1), unnest($2), unnest($3), unnest($4)", columns
        )

    def _note_change(self, partitions: Iterable[Partition], *, is_added: bool) -> None:
        """Remember that what follows from these is to be brought up to date."""
        for partition in partitions:
            values = [partition.system_id, partition.day, is_added]
            self.connection.execute("INSERT INTO state.changed VALUES ($1, $2, $3)", values)

    def _delete(self, table: str, partitions: Iterable[Partition]) -> None:
        keys = [(partition.system_id, partition.day) for partition in partitions]
        systems, days = [key[0] for key in keys], [key[1] for key in keys]
        self.connection.execute(
            f"DELETE FROM state.{table} WHERE (system_id, dt) IN (SELECT (unnest($1), unnest($2)))", [systems, days]
        )

    def _forget(self, partition: Partition) -> None:
        self._settled = False
        self._reset_totals(partition)
        for table in (*derived(), "applied"):
            self._delete(table, [partition])
        self._moved.forget(partition)
        days.forget(self.connection, [partition])
        self._note_change([partition], is_added=False)

    def _end_days(self, sealed: Mapping[Partition, bool]) -> None:
        """Tell the last states of each day that another one follows, if either of them is open."""
        days = {day: following(day) for day in sealed}
        wanted = [day for day, after in days.items() if after in sealed and not (sealed[day] and sealed[after])]
        keys = [[day.system_id for day in wanted], [day.day for day in wanted], [sealed[day] for day in wanted]]
        self.connection.execute("DELETE FROM state.day_ends")
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE ends AS SELECT spans.* FROM state.spans"
            " SEMI JOIN (SELECT unnest($1) AS system_id, unnest($2) AS dt) USING (system_id, dt)",
            keys[:2],
        )
        self.connection.execute(
            "INSERT INTO state.day_ends BY NAME FROM state.last_states('temp.ends')"
            " JOIN (SELECT unnest($1) AS system_id, unnest($2) AS dt, unnest($3) AS is_copy) USING (system_id, dt)",
            keys,
        )

    def _reset_totals(self, partition: Partition) -> None:
        """What was joined no longer holds if it includes this partition."""
        run, system = self.connection.execute, [partition.system_id]
        joined = run("SELECT dt FROM state.joined_until WHERE system_id = $1", system).fetchall()
        if joined and partition.day < joined[0][0]:
            self._settled = False
            run("DELETE FROM state.joined_until WHERE system_id = $1", system)
            run("DELETE FROM state.totals WHERE system_id = $1", system)

    def _join_totals(self, system_id: str, day: dt.date) -> None:
        run = self.connection.execute
        run("DELETE FROM state.totals WHERE system_id = $1", [system_id])
        run("DELETE FROM state.joined_until WHERE system_id = $1", [system_id])
        run(
            f"CREATE OR REPLACE TEMP VIEW closed_spans AS FROM working.state.spans"
            f" WHERE system_id = {quoted(system_id)} AND dt < DATE '{day}'"
        )
        run("INSERT INTO state.totals BY NAME FROM state.joined_spans('temp.closed_spans')")
        run("INSERT INTO state.joined_until VALUES ($1, $2)", [system_id, day])

    @contextlib.contextmanager
    def _reading_files(self, partition: Partition, files: Collection[str]) -> Iterator[None]:
        records = [record for file in files for record in raw_file_records(self._mirror / file)]
        with self._view_of(files), self._tables({partition: records}):
            yield

    @contextlib.contextmanager
    def _reading_rows(self, additions: Mapping[Partition, Addition]) -> Iterator[None]:
        tables = [
            rows.append_column("system_id", pa.repeat(partition.system_id, len(rows))).append_column(
                "dt", pa.repeat(partition.day, len(rows))
            )
            for partition, addition in additions.items()
            for rows in addition.rows
        ]
        self.connection.register("added_rows", pa.concat_tables(tables))
        self.connection.execute(
            "CREATE TEMP TABLE read_rows AS SELECT system_id, dt, * EXCLUDE (system_id, dt),"
            " row_number() OVER () AS row_number FROM added_rows"
        )
        self.connection.unregister("added_rows")
        self.connection.execute(f"CREATE TEMP TABLE former_rows AS {FORMER_ROWS}")
        with self._tables({partition: addition.records for partition, addition in additions.items()}):
            yield
        self.connection.execute("DROP TABLE temp.former_rows")
        self.connection.execute("DROP TABLE temp.read_rows")

    def _view_of_days(self, partitions: Iterable[Partition]) -> contextlib.AbstractContextManager[None]:
        return self._view_of({file for partition in partitions for file in self._contents[partition].values()})

    @contextlib.contextmanager
    def _view_of(self, files: Iterable[str]) -> Iterator[None]:
        """The rows of these files with the partitions that they lie in, and numbers that no two rows share."""
        # the empty file has all columns, also those that files of an earlier version lack
        paths = [self._empty, *(self._mirror / file for file in files)]
        listed = "[" + ", ".join(quoted(str(path)) for path in paths) + "]"
        self.connection.execute(
            f"CREATE TEMP VIEW read_rows AS SELECT system_id, dt, * EXCLUDE (system_id, dt, file_row_number),"
            f" file_index * 1_000_000_000 + file_row_number AS row_number"
            f" FROM read_parquet({listed}, hive_partitioning = true, {HIVE_TYPES}, union_by_name = true,"
            f" file_row_number = true)"
        )
        self.connection.execute("CREATE TEMP VIEW former_rows AS FROM temp.read_rows LIMIT 0")
        yield
        self.connection.execute("DROP VIEW temp.former_rows")
        self.connection.execute("DROP VIEW temp.read_rows")

    @contextlib.contextmanager
    def _tables(self, records: Mapping[Partition, Sequence[FileRecord]]) -> Iterator[None]:
        """The temporary tables over `read_rows`, whose raw files have these records."""
        told = json.dumps(
            [
                {"system_id": partition.system_id, "dt": partition.day.isoformat(), **asdict(record)}
                for partition, some in records.items()
                for record in some
            ]
        )
        for name, query in readings().items():
            parameters = {"records": told} if "$records" in query else None
            self.connection.execute(f"CREATE TEMP TABLE {name} AS\n{query}", parameters)
        yield
        # those of a whole day are large; where something failed, the transaction has taken them away
        for name in readings():
            self.connection.execute(f"DROP TABLE temp.{name}")

    def _save_some(self, size: int) -> None:
        """So many bytes were read: save what was derived from them and from others, if there is enough."""
        self._unsaved_changes += 1
        self._unsaved_bytes += size
        if self._unsaved_changes >= SAVED_CHANGES or self._unsaved_bytes > SAVED_BYTES:
            self.connection.execute("CHECKPOINT working")
            self._unsaved_changes = self._unsaved_bytes = 0

    def _applied(self) -> dict[Partition, Contents]:
        found: dict[Partition, dict[Segment, str]] = {}
        for system_id, day, span, file in self.connection.execute("FROM state.applied").fetchall():
            partition = Partition(system_id, day)
            start, end = (dt.time.fromisoformat(item) for item in span.split("-"))
            found.setdefault(partition, {})[Segment(partition, start, end)] = file
        return dict(found)

    def _probe(self, files: Contents) -> None:
        """Find out which files are to blame: read each in a database of its own. Raises DamagedFiles."""
        reasons: dict[Segment, str] = {}
        with opening.connect(":memory:", config=configuration(self._settings, self._path.parent)) as probe:

            def read(path: Path) -> list[tuple[object, ...]]:
                source = f"FROM read_parquet({quoted(str(path))}, hive_partitioning = false)"
                probe.execute(f"SELECT sum(hash(COLUMNS(*))) {source}").fetchall()
                return probe.execute(f"SELECT column_name, column_type FROM (DESCRIBE {source})").fetchall()

            expected = read(self._empty)
            former = [column for column in expected if column[0] not in ADDED]
            for segment, file in files.items():
                try:
                    if read(self._mirror / file) not in (expected, former):
                        reasons[segment] = "its columns are not those of the enhanced layer"
                except (duckdb.OutOfMemoryException, duckdb.InterruptException):
                    return
                except duckdb.Error as error:
                    reasons[segment] = first_line(error)
        if reasons:
            raise DamagedFiles(reasons)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = opening.connect(":memory:", config=configuration(self._settings, self._path.parent))
        try:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            # a file has the size that it was made with, also one of an earlier version
            size = "" if self._path.exists() else f"BLOCK_SIZE {BLOCK_BYTES}, "
            options = f"{size}STORAGE_VERSION 'latest', RECOVERY_MODE no_wal_writes"
            connection.execute(f"ATTACH {quoted(str(self._path))} AS working ({options})")
            connection.execute("USE working")
        except BaseException:
            connection.close()
            raise
        return connection

    def _stamp(self) -> str | None:
        known = (
            "SELECT 1 FROM duckdb_tables()"
            " WHERE database_name = 'working' AND schema_name = 'state' AND table_name = 'stamp'"
        )
        if self.connection.execute(known).fetchone() is None:
            return None
        row = self.connection.execute("SELECT value FROM state.stamp").fetchone()
        return None if row is None else str(row[0])

    def _create(self) -> None:
        none = Partition("", dt.date.min)
        with transaction(self.connection) as run:
            run("CREATE SCHEMA state")
            for statement in macros():
                run(statement)
            run("SET VARIABLE latest_time = $1", [_NEVER])
            run(f"CREATE TABLE state.station_changes ({_LOG_COLUMNS})")
            with self._reading_files(none, [str(self._empty.relative_to(self._mirror))]):
                for table, query in derived().items():
                    run(f"CREATE TABLE IF NOT EXISTS state.{table} AS {query} LIMIT 0")
                run("CREATE TABLE state.current_rows AS SELECT * EXCLUDE (dt, row_number) FROM temp.read_rows LIMIT 0")
            run("CREATE TABLE state.totals AS FROM state.spans LIMIT 0")
            run("CREATE TABLE state.joined_until (system_id VARCHAR, dt DATE)")
            run("CREATE TABLE state.applied (system_id VARCHAR, dt DATE, segment VARCHAR, file VARCHAR)")
            run(
                "CREATE VIEW state.open_spans AS FROM ("
                " FROM working.state.totals UNION ALL BY NAME"
                " SELECT spans.* FROM working.state.spans AS spans"
                " LEFT JOIN working.state.joined_until AS joined USING (system_id)"
                " WHERE joined.dt IS NULL OR spans.dt >= joined.dt)"
                f" WHERE {OF_CHANGED_SYSTEMS}"
            )
            run("CREATE TABLE state.day_ends AS SELECT *, false AS is_copy FROM state.station_changes")
            create_tables(self.connection)
            polls.create_tables(self.connection)
            days.create_tables(self.connection)
            for statement in bookkeeping():
                run(statement)
            usual.create_tables(self.connection)
            history.create_tables(self.connection)
            forecasts.create_tables(self.connection)
            run("CREATE TABLE state.stamp AS SELECT $1 AS value", [stamp()])


def following(day: Partition) -> Partition:
    """The day after."""
    return Partition(day.system_id, day.day + dt.timedelta(days=day.day < dt.date.max))


def is_sealed(files: Collection[Segment]) -> bool:
    """Whether a partition lies in one sealed segment."""
    return len(files) == 1 and next(iter(files)).sealed


def _first_open_days(sealed: Mapping[Partition, bool]) -> dict[str, dt.date]:
    """Of each system, the first day that is not sealed; the day after the last one where all are."""
    found: dict[str, dt.date] = {}
    decided: set[str] = set()
    for partition in sorted(sealed):
        if partition.system_id not in decided:
            found[partition.system_id] = partition.day + dt.timedelta(days=sealed[partition])
        if not sealed[partition]:
            decided.add(partition.system_id)
    return found


def _kept_query(table: str) -> str:
    """What goes to a sealed day's file: what is derived from the day, without what the file's path tells."""
    if table == "station_changes":
        return _LOG.format(log=derived()[table])
    return f"SELECT * EXCLUDE (system_id, dt) FROM (\n{derived()[table]}\n)"


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[Callable[..., duckdb.DuckDBPyConnection]]:
    """All or nothing; gives what runs a statement."""
    connection.execute("BEGIN")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        # DuckDB may have ended the transaction already, or the whole database; the error that led here tells
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def configuration(settings: WarehouseSettings, directory: Path) -> dict[str, str | bool | int | float | list[str]]:
    """How we open DuckDB: bounded, spilling below `directory`, and without ever asking the network."""
    return {
        "memory_limit": settings.memory_limit,
        "threads": settings.threads,
        "temp_directory": str(directory / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allocator_background_threads": True,  # what a refresh leaves free goes back within seconds
        "enable_external_file_cache": False,  # each segment's file is read once
    }


def discard(path: Path) -> None:
    """Remove a database file together with its write-ahead log."""
    remove(path)
    remove(path.with_name(f"{path.name}.wal"))


def quarantined(path: Path) -> Path:
    """Set a damaged database aside, without its write-ahead log; returns where it lies now."""
    damaged = set_aside(path)
    discard(path)
    return damaged


def first_line(error: BaseException) -> str:
    """What DuckDB says, without the statement that it quotes below; of a failed checkpoint, why it failed."""
    text, _, cause = str(error).strip().partition("Original error: ")
    return (cause or text).partition("\n")[0]
