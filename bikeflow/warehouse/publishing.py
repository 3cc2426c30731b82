"""The published database: built beside its target, which it then replaces by a rename.

Readers in other processes keep the file that they opened, and the next one to open finds the new one; neither ever
waits. A template holds all objects, and what hardly ever changes: the names of the files of sealed days, and the tables
that are made of these. So a publication costs the same in any archive, and the file is small, however long the service
runs: history is only viewed.

What is published is a copy of a file of our own. Where a few of many systems have changed, only their rows are replaced
in it; else it is made from the template, and so it is every now and then, as what was replaced leaves gaps.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import duckdb

from bikeflow import __version__
from bikeflow.core.errors import Permanent
from bikeflow.core.model import UTC, Publication
from bikeflow.runtime.files import hidden, remove, replace
from bikeflow.runtime.log import get_logger
from bikeflow.warehouse import opening
from bikeflow.warehouse.documentation import create_inputs, describe, needs_files_sql
from bikeflow.warehouse.parts import FileList, open_sql, sealed_sql, whole_sql
from bikeflow.warehouse.state import BLOCK_BYTES, discard, first_line, quarantined, transaction
from bikeflow.warehouse.statements import (
    COMPATIBLE,
    LISTS,
    MOVED,
    PARTS,
    SCHEMA,
    compatible,
    published,
    quoted,
    shared,
)

STORAGE_VERSION = "v1.2.0"
"""The oldest DuckDB that can read it: the format before it takes twice the time to write."""

REFILLED_AFTER = 64
"""After so many publications that replaced the rows of some systems, the whole database is filled again."""
log = get_logger()


_TOTALS = f"""
SELECT max(published_at), max(newest_snapshot), {
    ", ".join(
        f"CAST(sum({name}) AS BIGINT)"
        for name in (field.name for field in fields(Publication))
        if name not in ("at", "newest_snapshot", "size_bytes")
    )
}
FROM {SCHEMA}.publication
"""


class Publisher:
    """Publishes to `target` what the working database and the segments' files give.

    `empty` are files without rows, one for each list of files, as patterns, and queries without rows for those of
    `MOVED`: they give the schemas. `systems` are the configured ones with their time zones, `shown` is the id of the
    one that the views in `wrm_analytics` show.
    """

    def __init__(
        self,
        working: duckdb.DuckDBPyConnection,
        template: Path,
        target: Path,
        empty: Mapping[str, str],
        systems: Mapping[str, str],
        shown: str,
    ) -> None:
        self._template = template
        self._target = target
        self._empty = empty
        self._systems = tuple(systems)
        self._sealed: dict[str, tuple[str, ...]] = dict.fromkeys(empty, ())
        self._is_settled = False
        self._filled = template.with_name("filled.duckdb")
        self._updates = REFILLED_AFTER
        """How often the filled database was updated since it was made from the template."""
        self._part = hidden(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        make_way(target)
        self._cursor = working.cursor()
        self._cursor.execute(f"SET VARIABLE bikeflow_version = {quoted(__version__)}")
        self._cursor.execute("SET VARIABLE systems = $1", [list(systems)])
        self._cursor.execute("SET VARIABLE timezones = $1", [list(systems.values())])
        self._objects = [*published(), *compatible(shown)]
        self._with_files = [name for name in LISTS if name not in MOVED.values()]
        """The lists that have files."""
        discard(template)
        with self._attached(template):
            create_inputs(self._cursor)
            with transaction(self._cursor) as run:
                none = dict.fromkeys(empty, FileList())
                for schema in (COMPATIBLE, PARTS):
                    run(f"CREATE SCHEMA {schema}")
                for sql in (*shared(PARTS), *open_sql(none, empty), *sealed_sql(none, empty), *whole_sql(empty)):
                    run(sql)
                for item in self._objects:
                    run(item.create_sql)
                for entry in describe(self._cursor, self._objects, self._with_files):
                    run(entry.comment_sql)
                for item in self._objects:
                    if item.kind == "TABLE" and not item.from_state:
                        run(item.fill_sql)

    def publish(self, lists: Mapping[str, FileList], changed: Collection[str], *, daily: bool) -> Publication:
        """Replace the published database by one over these files, by the name of their list.

        `changed` are the systems of which anything has changed since the last publication that succeeded, and `daily`
        tells whether any of the tables `DAILY` has. Raises duckdb.Error, OSError.
        """
        sealed = self._settle(lists, daily=daily)
        updates, self._updates = self._updates + 1, REFILLED_AFTER  # should it fail, it is filled again
        if updates > REFILLED_AFTER or 2 * len(changed) > len(self._systems):
            updates, sealed = 0, ()
            discard(self._filled)
            shutil.copyfile(self._template, self._filled)
        with self._attached(self._filled):
            self._fill(lists, changed if updates else self._systems, sealed)
            told = self._cursor.execute(_TOTALS).fetchone() or ()
        discard(self._part)
        shutil.copyfile(self._filled, self._part)
        self._updates = updates
        # one that a reader who opened the old file for writing may have left: it would spoil the new one
        remove(self._target.with_name(f"{self._target.name}.wal"))
        size = replace(self._part, self._target)
        at, newest, *counts = told
        return Publication(_aware(at), newest and _aware(newest), size, *counts)

    @contextlib.contextmanager
    def _attached(self, path: Path) -> Iterator[None]:
        """Work in the database at `path`; at the end it is complete and closed, with nothing lying beside."""
        options = f"BLOCK_SIZE {BLOCK_BYTES}, STORAGE_VERSION '{STORAGE_VERSION}', RECOVERY_MODE no_wal_writes"
        self._cursor.execute(f"ATTACH {quoted(str(path))} AS published ({options})")
        # small tables, read whole: finding the best compression of each column would take as long as all the rest
        self._cursor.execute("SET force_compression = 'uncompressed'")
        try:
            self._cursor.execute("USE published")
            yield
        finally:
            self._cursor.execute("USE working")
            self._cursor.execute("DETACH published")
            self._cursor.execute("RESET force_compression")

    def _settle(self, lists: Mapping[str, FileList], *, daily: bool) -> Sequence[str]:
        """Bring what the template holds up to date; gives the statements that did."""
        named = {name: files.sealed for name, files in lists.items()}
        statements = list(sealed_sql(lists, self._empty)) if named != self._sealed else []
        if daily or not self._is_settled:
            tables = [item for item in published() if item.is_daily]
            statements += [sql for item in tables for sql in (f"DELETE FROM {item.schema}.{item.name}", item.fill_sql)]
        with_files = [name for name in LISTS if name not in MOVED.values() or lists[name].open]
        if with_files != self._with_files:
            statements.append(needs_files_sql(self._objects, with_files))
        if statements:
            with self._attached(self._template), transaction(self._cursor) as run:
                for sql in statements:
                    run(sql)
        self._sealed, self._is_settled, self._with_files = named, True, with_files
        return statements

    def _fill(self, lists: Mapping[str, FileList], changed: Collection[str], sealed: Sequence[str]) -> None:
        """Fill the tables where all systems have changed, else replace the rows of those that have."""
        self._cursor.execute("SET VARIABLE changed_systems = $1", [list(changed)])
        whole = len(changed) == len(self._systems)
        with transaction(self._cursor) as run:
            for sql in (*sealed, *open_sql(lists, self._empty)):
                run(sql)
            for item in published():
                if item.from_state and not item.is_daily:
                    for sql in (item.fill_sql,) if whole else item.update_sql:
                        run(sql)


def make_way(target: Path) -> None:
    """Let `target` be replaced: a damaged database is set aside; raises Permanent where the file is not ours."""
    if target.is_dir():
        raise Permanent(f"{target} is a directory; set warehouse.path to a file")
    if not target.exists():
        return
    try:
        with opening.connect(str(target), read_only=True) as found:
            ours = found.execute("SELECT 1 FROM duckdb_schemas() WHERE schema_name = $1", [COMPATIBLE]).fetchone()
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
