"""The SQLite file below the ledger: opening, healing, transactions."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from bikeflow.core.errors import Transient
from bikeflow.core.model import UTC
from bikeflow.runtime.log import get_logger

LEDGER = "bikeflow.ledger"
_OF_THE_MACHINE = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
)  # fmt: skip
LOOKS = 5
LOOK_SECONDS = 0.2
"""A file that looks damaged so many times, with so much time between, is."""
log = get_logger()


@cache
def _schema(package: str) -> str:
    return resources.files(package).joinpath("schema.sql").read_text(encoding="utf-8")


@cache
def queries(package: str = LEDGER) -> dict[str, str]:
    """Every statement in a package's `queries.sql` by its name."""
    text = resources.files(package).joinpath("queries.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- (\w+) --\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


class Transaction:
    """Runs the queries of one transaction, by name."""

    def __init__(self, connection: sqlite3.Connection, statements: Mapping[str, str]) -> None:
        self._connection = connection
        self._statements = statements

    def run(self, name: str, **parameters: object) -> sqlite3.Cursor:
        """Run a query."""
        return self._connection.execute(self._statements[name], parameters)

    def run_many(self, name: str, parameters: Iterable[Mapping[str, object]]) -> None:
        """Run a query once for each of these."""
        self._connection.executemany(self._statements[name], parameters)


class Database:
    """One connection, used by one thread at a time; a damaged or outdated file is set aside for a new one.

    With `read_only` nothing is written; `at_rest` promises that no other process writes either: then nothing is
    created beside the file. `shared`: another process has it open, which alone sets aside what is damaged. Schema and
    queries are those in the `package`. A file with another schema is of another version: an index, that is cheaper to
    rebuild than to migrate. Raises `Transient` where a `shared` one is of another version.
    """

    def __init__(
        self,
        path: Path,
        *,
        package: str = LEDGER,
        read_only: bool = False,
        at_rest: bool = False,
        shared: bool = False,
    ) -> None:
        self.path = path
        self._schema = _schema(package)
        self._version = int.from_bytes(hashlib.sha256(self._schema.encode()).digest()[:3], "big")
        self._statements = queries(package)
        self._lock = threading.Lock()
        self._is_ours = self._is_suspect = False
        with self._translated():
            if read_only:
                # SQLite would create a log beside the file, and could not in a read-only place.
                whole = at_rest and not path.with_name(f"{path.name}-wal").exists()
                self._connection = _connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}")
                return
            if shared:
                self._connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
                if self._connection.execute("PRAGMA user_version").fetchone()[0] != self._version:
                    self._connection.close()
                    raise Transient(f"the ledger {path} is that of another version of bikeflow, which is at work")
                return
            try:
                self._connection = self._open()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if _is_of_the_machine(error):
                    raise
                log.warning("ledger_quarantined", path=str(path), error=str(error))
                self._set_aside()
                self._connection = self._open()
        self._is_ours = True

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing; one at a time. Raises `Transient` where the disk fails."""
        with self._lock, self._translated():
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(connection, self._statements)
                connection.commit()
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite itself has mostly done so where the disk failed
                    connection.rollback()
                raise

    def rows(self, name: str, **parameters: object) -> list[sqlite3.Row]:
        """The rows of the query of this name. Raises `Transient` where the disk fails."""
        with self._lock, self._translated():
            return self._ready().execute(self._statements[name], parameters).fetchall()

    def row(self, name: str, **parameters: object) -> sqlite3.Row | None:
        """Its first row, or None where it has none."""
        return next(iter(self.rows(name, **parameters)), None)

    def pairs(self, name: str, **parameters: object) -> dict[Any, Any]:
        """Its second column by its first. Raises `Transient` where the disk fails."""
        # Row by row: a hundred thousand rows at once are as many objects for the garbage collector to go through.
        with self._lock, self._translated(), contextlib.closing(self._ready().cursor()) as cursor:
            cursor.row_factory = None
            return dict(cursor.execute(self._statements[name], parameters))

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if not (_is_of_the_machine(error) or (_is_of_the_file(error) and self._is_whole())):
                raise
            raise Transient(f"the ledger {self.path}: {error}") from error
        except OSError as error:
            raise Transient(f"the ledger {self.path}: {error.strerror or error}") from error

    def _ready(self) -> sqlite3.Connection:
        """The connection; a new one where the file looked damaged to the one before, and is not."""
        if self._is_suspect:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = self._open()
            self._is_suspect = False
        return self._connection

    def _is_whole(self) -> bool:
        """Whether the disk is to blame: SQLite calls a file malformed of which it can't read a part at that moment."""
        for _ in range(LOOKS):
            if not self._is_readable():
                return True
            try:
                with contextlib.closing(_connect(f"{self.path.absolute().as_uri()}?mode=ro")) as connection:
                    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            except sqlite3.Error as error:
                if _is_of_the_machine(error):
                    return True
            else:
                if verdict == "ok":
                    self._is_suspect = self._is_ours
                    return True
            time.sleep(LOOK_SECONDS)  # the disk may have failed for another moment
        return False

    def _is_readable(self) -> bool:
        try:
            for path in self.path.parent.glob(f"{self.path.name}*"):
                path.read_bytes()
        except OSError:
            return False
        return True

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(self.path.absolute().as_uri())
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # It is an index: after a power cut it may lag behind the lake, but it is never inconsistent.
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and version != self._version:
                raise sqlite3.DatabaseError("written by another version")
            # Unlike the quick one, it compares the indices with the tables: the only trace of many a flipped bit.
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok" or (tables and _objects(connection) != _intended_objects(self._schema)):
                damage = sqlite3.DatabaseError("malformed" if verdict == "ok" else verdict)
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damage
            connection.executescript(f"BEGIN; {self._schema} PRAGMA user_version = {self._version}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> None:
        for old in self.path.parent.glob(f"{self.path.name}.damaged-*"):
            old.unlink()
        stamp = dt.datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path.rename(self.path.with_name(f"{self.path.name}.damaged-{stamp}"))
        for suffix in ("-wal", "-shm"):
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)


def _is_of_the_machine(error: Exception) -> bool:
    """Whether the disk or another process is to blame, and not the file's content: by the primary code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_MACHINE


def _is_of_the_file(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    connection.row_factory = sqlite3.Row
    # A flipped bit in an ETag is no reason to fail: it is another ETag, and the object is looked at again.
    connection.text_factory = lambda data: data.decode(errors="replace")
    return connection


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Names and definitions of all tables and indices."""
    return {tuple(row) for row in connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master")}


def _intended_objects(schema: str) -> set[tuple[str, str]]:
    with contextlib.closing(_connect(":memory:")) as connection:
        connection.executescript(schema)
        return _objects(connection)


def text(at: dt.datetime) -> str:
    """A time as the ledger keeps it: sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
