"""The working database: partial results kept per segment, so that one changed segment costs the same in any archive."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import duckdb

from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse.facts import create_tables
from bikeflow.warehouse.files import remove, set_aside
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.parquet import Records, raw_file_records
from bikeflow.warehouse.reading import RecentRows, create_macros, reading, reading_some
from bikeflow.warehouse.rollup import Rollups, create_rollups
from bikeflow.warehouse.statements import kept, partials, quoted, stamp

SAVED_BYTES = 8 * 1024 * 1024
"""What became of so many bytes of files is saved: a crash costs reading so much again, and an arrival no log."""

SAVED_CHANGES = 64
"""So many changes are, too, however small: DuckDB keeps the rows that they replaced in memory until then."""

BLOCK_BYTES = 16_384
"""The smallest that DuckDB knows: its usual ones take a quarter of a megabyte in memory for each column of a table that
is added to, and as much in a file for each small table."""

MOST_PIECES = 16
"""What is made of a segment's pieces is joined again and again: after so many, the segment is read whole."""

_FOLLOWS = """
SELECT (SELECT min(file_timestamp) FROM temp.sources WHERE NOT is_future)
    > (SELECT max(newest_snapshot) FROM partials.segments WHERE segment = $1)
"""

_DUE = "SELECT DISTINCT segment FROM partials.segments WHERE future_at <= $1 OR newest_snapshot > $1"

_OVERLAPPING = """
SELECT DISTINCT split_part(segment, '/', 1)
FROM (
    SELECT
        segment,
        oldest <= max(newest) OVER (
            PARTITION BY split_part(segment, '/', 1)
            ORDER BY oldest, segment
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS is_overlapping
    FROM (
        SELECT segment, min(oldest_snapshot) AS oldest, max(newest_snapshot) AS newest
        FROM partials.segments
        GROUP BY segment
    )
)
WHERE is_overlapping
"""

Pieces = Mapping[str, tuple[str, ...]]
"""The names of the files that went into the partial results, by segment: of one that lies in pieces, several versions.

The first was read whole, of each other the rows of its new raw files.
"""


class DamagedSegment(Exception):
    """A segment's file can't be read as the enhanced layer; the text says why."""


class WorkingDatabase:
    """An open `working.duckdb` with its tables, in the schema `partials`; raises duckdb.Error.

    The open segment is written again with each snapshot, and the rows that were in it before stay as they were. So that
    an arrival costs the same at the end of an hour as at its beginning, only the rows of new raw files are read: they
    are a *piece* of the segment, with partial results and kept files of its own.

    It is never published and can be thrown away at any time. One of another version of the partial results is emptied.
    The file is that of the last `CHECKPOINT`: there is no write-ahead log, as what a crash loses is only read again.
    """

    def __init__(self, path: Path, settings: WarehouseSettings, empty: Path, files: KeptFiles) -> None:
        self._path = path
        self._settings = settings
        self._kept = files
        self._unsaved: list[tuple[str, int]] = []
        self._last: tuple[str, Records] = ("", {})
        self.connection = self._connect()
        try:
            if self._stamp() != stamp():
                self.connection.close()
                discard(path)
                self.connection = self._connect()
                self._create(empty)
            files.open(self.connection, empty)
            self._pieces = self._applied()
            self._rollups = Rollups(self.connection)
        except BaseException:
            self.connection.close()
            raise

    @property
    def pieces(self) -> Pieces:
        """What went into the partial results."""
        return self._pieces

    def apply(self, segment: str, file: Path, recent: RecentRows | None = None) -> None:
        """Let the segment's partial results be those of this file, whose rows `recent` may have at hand.

        Raises DamagedSegment.
        """
        records = raw_file_records(file)
        try:
            pieces = self._extended(segment, file, records, recent) or self._replaced(segment, file, records)
        except duckdb.Error:
            self._probe(file, records)
            raise
        self._pieces[segment], self._last = pieces, (segment, records)
        self._save_some(segment, file)

    def leave_out(self, segments: Iterable[str]) -> None:
        """Let the newest of these segments, all that are to be applied, be left out of the months' results."""
        with transaction(self.connection):
            self._rollups.leave_out(segments)

    def set_latest_time(self, at: dt.datetime) -> set[str]:
        """Let later snapshots (naive UTC) be dated in the future; gives the segments to be read again."""
        self.connection.execute("SET VARIABLE latest_time = $1", [at])
        return {segment for (segment,) in self.connection.execute(_DUE, [at]).fetchall()}

    def set_threads(self, threads: int) -> None:
        """How many threads work from now on."""
        self.connection.execute(f"SET threads = {threads}")

    def forget(self, segments: Collection[str]) -> None:
        """Remove the partial results of these segments."""
        for segment in segments:
            with transaction(self.connection):
                self._delete(segment)
            self._pieces.pop(segment, None)

    def read_overlapping(self, files: Mapping[str, Path]) -> None:
        """Let the spans of a day whose segments overlap in time be those of all its rows; `files` are the segments'.

        A late file of a sealed day lies in a segment of its own until the day is sealed again.
        """
        days = {day for (day,) in self.connection.execute(_OVERLAPPING).fetchall()}
        wanted = {
            day: {(name, files[name].name) for name in self._pieces if name.startswith(f"{day}/")} for day in days
        }
        known: dict[str, set[tuple[str, str]]] = {}
        for segment, file in self.connection.execute("SELECT segment, file FROM partials.overlapping").fetchall():
            known.setdefault(segment.partition("/")[0], set()).add((segment, file))
        for day in sorted(known.keys() | wanted.keys()):
            if known.get(day) != wanted.get(day):
                with transaction(self.connection):
                    self._read_day(day, {name: files[name] for name, _ in wanted.get(day, ())})

    def _read_day(self, day: str, files: Mapping[str, Path]) -> None:
        segment = f"{day}/overlapping"
        self._rollups.changes(segment)
        run = self.connection.execute
        run("DELETE FROM partials.overlapping WHERE starts_with(segment, $1)", [f"{day}/"])
        run("DELETE FROM partials.settled_spans WHERE segment = $1", [segment])
        if files:
            with reading(self.connection, sorted(files.values()), {}):
                query = partials()["settled_spans"]
                run(f"INSERT INTO partials.settled_spans SELECT $segment, * FROM (\n{query}\n)", {"segment": segment})  # noqa: S608
            names = [[name, file.name] for name, file in files.items()]
            self.connection.executemany("INSERT INTO partials.overlapping VALUES ($1, $2)", names)

    def roll_up(self) -> None:
        """Join the partial results of the months in which some have changed."""
        with transaction(self.connection):
            self._rollups.join()

    def close(self) -> None:
        """Close the file; all is saved in it."""
        self.connection.close()

    def _save_some(self, segment: str, file: Path) -> None:
        """The file was read: save what became of it and of others, if there is enough."""
        self._unsaved.append((segment, file.stat().st_size))
        if len(self._unsaved) >= SAVED_CHANGES or sum(dict(self._unsaved).values()) > SAVED_BYTES:
            self.connection.execute("CHECKPOINT working")
            self._unsaved.clear()

    def _applied(self) -> dict[str, tuple[str, ...]]:
        pieces = "SELECT segment, list(file ORDER BY piece) FROM partials.applied GROUP BY segment"
        return {segment: tuple(files) for segment, files in self.connection.execute(pieces).fetchall()}

    def _replaced(self, segment: str, file: Path, records: Records) -> tuple[str, ...]:
        """Read the whole file."""
        with transaction(self.connection):
            self._delete(segment)
            with reading(self.connection, [file], records):
                self._insert(segment, file, 0)
        return (file.name,)

    def _extended(
        self, segment: str, file: Path, records: Records, recent: RecentRows | None
    ) -> tuple[str, ...] | None:
        """Read what is new in the file; None where that can't be told, or is not later than all that was there."""
        known, former = self._last
        pieces = self._pieces.get(segment, ())
        new = records.keys() - former.keys()
        if segment != known or not new or not 0 < len(pieces) < MOST_PIECES or not _same(records, former):
            return None
        added = {key: records[key] for key in sorted(new)}
        with transaction(self.connection) as run, reading_some(self.connection, file, added, recent):
            if self.connection.execute(_FOLLOWS, [segment]).fetchone() != (True,):
                return None
            self._rollups.changes(segment)
            picked = self._rollups.table("settled_picked", segment)
            run(f"DELETE FROM partials.{picked} WHERE segment = $1", [segment])  # noqa: S608
            self._insert(segment, file, len(pieces))
        return (*pieces, file.name)

    def _insert(self, segment: str, file: Path, piece: int) -> None:
        """Add the partial results of what is being read."""
        for table, query in partials().items():
            target = self._rollups.table(table, segment)
            insert = f"INSERT INTO partials.{target} SELECT $segment, * FROM (\n{query}\n)"  # noqa: S608
            self.connection.execute(insert, {"segment": segment})
        self._kept.write(self.connection, segment, file)
        self.connection.execute("INSERT INTO partials.applied VALUES ($1, $2, $3)", [segment, piece, file.name])

    def _delete(self, segment: str) -> None:
        self._rollups.changes(segment)
        for table in (*partials(), "applied"):
            target = self._rollups.table(table, segment)
            self.connection.execute(f"DELETE FROM partials.{target} WHERE segment = $1", [segment])  # noqa: S608

    def _probe(self, file: Path, records: Records) -> None:
        """Find out whether the file is to blame: read it in a database of its own."""
        with duckdb.connect(":memory:", config=configuration(self._settings, self._path.parent)) as probe:
            probe.execute("ATTACH ':memory:' AS working; USE working")
            create_macros(probe)
            try:
                with reading(probe, [file], records):
                    for query in (*partials().values(), *kept().values()):
                        probe.execute(query).fetchall()
            except (duckdb.OutOfMemoryException, duckdb.InterruptException):
                return
            except duckdb.Error as error:
                raise DamagedSegment(first_line(error)) from error

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(":memory:", config=configuration(self._settings, self._path.parent))
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
        known = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'working' AND table_name = 'stamp'"
        if self.connection.execute(known).fetchone() == (0,):
            return None
        row = self.connection.execute("SELECT value FROM partials.stamp").fetchone()
        return None if row is None else str(row[0])

    def _create(self, empty: Path) -> None:
        with transaction(self.connection) as run:
            create_macros(self.connection)
            with reading(self.connection, [empty], {}):
                for table, query in partials().items():
                    run(f"CREATE TABLE partials.{table} AS SELECT '' AS segment, * FROM (\n{query}\n) LIMIT 0")  # noqa: S608
            create_rollups(run)
            create_tables(self.connection)
            run("CREATE TABLE partials.applied (segment VARCHAR, piece INTEGER, file VARCHAR)")
            run("CREATE TABLE partials.overlapping (segment VARCHAR, file VARCHAR)")
            run("CREATE TABLE partials.stamp AS SELECT $1 AS value", [stamp()])


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[Callable[..., object]]:
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


def _same(records: Records, former: Records) -> bool:
    """Whether a footer says of all raw files what a former one said; without a recipe it says nothing of their rows."""
    return all(record.get("recipe") and records.get(key) == record for key, record in former.items())


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
