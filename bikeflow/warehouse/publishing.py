"""The published database: built beside its target, which it then replaces by a rename.

Readers in other processes keep the file that they opened, and the next one to open finds the new one; neither ever
waits. Each publication begins with a copy of a template that holds all objects, and the names of the files that hardly
ever change. So a publication costs the same in any archive, and the file is small, and never fragmented, however
long the service runs: history is only viewed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bikeflow import __version__
from bikeflow.errors import Permanent
from bikeflow.log import get_logger
from bikeflow.model import UTC
from bikeflow.warehouse.documentation import create_inputs, describe
from bikeflow.warehouse.files import hidden, remove, replace
from bikeflow.warehouse.parts import FileList, recent_sql, settled_sql, whole_sql
from bikeflow.warehouse.statements import PARTS, SCHEMA, published, quoted, shared
from bikeflow.warehouse.working import BLOCK_BYTES, discard, first_line, quarantined, transaction

STORAGE_VERSION = "v1.2.0"
"""The oldest DuckDB that can read it: the format before it takes twice the time to write."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published; `newest_snapshot` is None in an empty lake.

    Stations and free bikes are those of the newest snapshot, inside the service area unless the name says otherwise.
    """

    at: dt.datetime
    newest_snapshot: dt.datetime | None
    segments: int
    rows: int
    stations: int
    bikes: int
    size_bytes: int
    future_snapshots: int
    stations_outside: int
    stations_empty: int
    stations_full: int
    bikes_outside: int


class Publisher:
    """Publishes to `target` what the partial results in `working` and the segments' files give.

    `empty` are files without rows, one for each list of files, as patterns: they give the schemas.
    """

    def __init__(
        self, working: duckdb.DuckDBPyConnection, template: Path, target: Path, empty: Mapping[str, str]
    ) -> None:
        self._template = template
        self._target = target
        self._empty = empty
        self._settled: dict[str, tuple[str, ...]] = dict.fromkeys(empty, ())
        self._part = hidden(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        make_way(target)
        self._cursor = working.cursor()
        self._cursor.execute(f"SET VARIABLE bikeflow_version = {quoted(__version__)}")
        discard(template)
        with self._attached(template):
            self._cursor.execute(f"CREATE SCHEMA {SCHEMA}")
            self._cursor.execute(f"CREATE SCHEMA {PARTS}")
            create_inputs(self._cursor)
            with transaction(self._cursor) as run:
                none = dict.fromkeys(empty, FileList())
                for sql in (*shared(PARTS), *recent_sql(none, empty), *settled_sql(none, empty), *whole_sql(empty)):
                    run(sql)
                for item in published():
                    run(item.create_sql)
                for entry in describe(self._cursor):
                    run(entry.comment_sql)
                for item in published():
                    if item.kind == "TABLE" and not item.changes:
                        run(item.fill_sql)

    def publish(self, lists: Mapping[str, FileList]) -> Publication:
        """Replace the published database by one over these files, by the name of their list.

        Raises duckdb.Error, OSError.
        """
        self._cursor.execute(
            "SET VARIABLE newest_source_key ="
            " (SELECT arg_max(newest_source_key, (newest_snapshot, newest_source_key)) FROM working.partials.segments)"
        )
        self._settle(lists)
        discard(self._part)
        shutil.copyfile(self._template, self._part)
        with self._attached(self._part):
            self._fill(lists)
            found = self._cursor.execute(f"FROM {SCHEMA}.publication")
            told = dict(zip((column[0] for column in found.description), found.fetchone() or (), strict=True))
        # one that a reader who opened the old file for writing may have left: it would spoil the new one
        remove(self._target.with_name(f"{self._target.name}.wal"))
        size = replace(self._part, self._target)
        del told["bikeflow_version"]
        at, newest = told.pop("published_at"), told.pop("newest_snapshot")
        return Publication(at=_aware(at), newest_snapshot=newest and _aware(newest), size_bytes=size, **told)

    @contextlib.contextmanager
    def _attached(self, path: Path) -> Iterator[None]:
        """Work in the database at `path`; at the end it is complete and closed, with nothing lying beside."""
        options = f"BLOCK_SIZE {BLOCK_BYTES}, STORAGE_VERSION '{STORAGE_VERSION}', RECOVERY_MODE no_wal_writes"
        self._cursor.execute(f"ATTACH {quoted(str(path))} AS published ({options})")
        # small tables, read whole: to find out how each column is best compressed takes as long as all else
        self._cursor.execute("SET force_compression = 'uncompressed'")
        try:
            self._cursor.execute("USE published")
            yield
        finally:
            self._cursor.execute("USE working")
            self._cursor.execute("DETACH published")
            self._cursor.execute("RESET force_compression")

    def _settle(self, lists: Mapping[str, FileList]) -> None:
        """Let the template name the settled files."""
        settled = {name: files.settled for name, files in lists.items()}
        if settled != self._settled:
            with self._attached(self._template), transaction(self._cursor) as run:
                for sql in settled_sql(lists, self._empty):
                    run(sql)
            self._settled = settled

    def _fill(self, lists: Mapping[str, FileList]) -> None:
        with transaction(self._cursor) as run:
            for sql in recent_sql(lists, self._empty):
                run(sql)
            for item in published():
                if item.changes:
                    run(item.fill_sql)


def make_way(target: Path) -> None:
    """Let `target` be replaced: a damaged database is set aside; raises Permanent where the file is somebody else's."""
    if target.is_dir():
        raise Permanent(f"{target} is a directory; set warehouse.path to a file")
    if not target.exists():
        return
    try:
        with duckdb.connect(str(target), read_only=True) as found:
            ours = found.execute("SELECT 1 FROM duckdb_schemas() WHERE schema_name = $1", [SCHEMA]).fetchone()
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            return  # somebody has opened it for writing; they keep their file
        log.warning("database_damaged", set_aside=str(quarantined(target)), error=first_line(error))
        return
    if ours is None:
        raise Permanent(
            f"{target} is a DuckDB database that bikeflow did not write; move it, or set warehouse.path to another file"
        )


def _aware(naive: dt.datetime) -> dt.datetime:
    return naive.replace(tzinfo=UTC)
