"""The latest tables and the hourly statistics in PostgreSQL, for those who have one: rows are upserted.

A day's hours are written again only when one of the day's files has changed, so that an export costs the same in any
archive; which files they were made of is kept in PostgreSQL itself, in `exported_days`.

A row that PostgreSQL can't hold is left out and counted: a timestamp before 4714-11-24 BC, an id with a NUL or too long
for an index. In other texts a NUL becomes U+FFFD.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.model import Segment
from bikeflow.runtime.files import disk_errors, remove
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import PostgresSettings
from bikeflow.warehouse import opening
from bikeflow.warehouse.bucket import modest
from bikeflow.warehouse.documentation import quoted_name
from bikeflow.warehouse.state import first_line
from bikeflow.warehouse.statements import COMPATIBLE
from bikeflow.warehouse.warehouse import Frozen, Warehouse

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 30
LATEST = ("wrm_stations_latest", "wrm_bikes_latest")
HOURLY = "station_hourly"
DAYS = "exported_days"
_KEYS = {
    "wrm_stations_latest": ["station_id"],
    "wrm_bikes_latest": ["station_id"],
    HOURLY: ["station_id", "date", "hour"],
}
_TYPES = {"VARCHAR": "text", "DOUBLE": "double precision", "VARCHAR[]": "text[]", "TIMESTAMP": "timestamp"}
_HELD = {
    "TIMESTAMP": "({0} BETWEEN TIMESTAMP '4714-11-24 (BC) 00:00:00' AND TIMESTAMP '294247-01-10 04:00:54.775806')",
    # an entry of an index takes 2,704 bytes at most
    "VARCHAR": "(NOT contains({0}, chr(0)) AND strlen({0}) <= 2600)",
}
"""Whether PostgreSQL can hold a value, by its type; a text only where it is part of a key."""
_WHY_NOT = "PostgreSQL can't hold a timestamp before 4714-11-24 BC, nor an id with a NUL or of more than 2,600 bytes"
_COVERAGE = """
SELECT CAST(hour_at AS DATE), CAST(bit_xor(hash(hour_at, seconds, known_seconds)) AS VARCHAR)
FROM coverage_hours
GROUP BY ALL
"""
"""The coverage of each day, as a digest."""
_BATCH_ROWS = 10_000
log = get_logger()
Connection = psycopg.Connection[tuple[object, ...]]


class PostgresTables:
    """The tables in the schema that the settings name; it and they are made where they are missing."""

    def __init__(self, settings: PostgresSettings, warehouse: Warehouse, directory: Path) -> None:
        self._skipped_rows: object = 0
        self._settings = settings
        self._warehouse = warehouse
        self._directory = directory

    async def export(self) -> dict[str, object]:
        """Upsert what the newest publication holds; returns what is to be logged. Raises Transient, Permanent.

        Does nothing before the first publication. Readers see the latest tables change at one instant, and each day's
        hours at another.
        """
        with disk_errors():
            told = await asyncio.to_thread(self._export)
        skipped = told.get("skipped_rows", 0)
        if skipped and skipped != self._skipped_rows:
            log.warning("rows_not_exported", target="postgres", rows=skipped, hint=_WHY_NOT)
        self._skipped_rows = skipped
        return told

    def _export(self) -> dict[str, object]:
        remove(self._directory)
        self._directory.mkdir(parents=True)
        frozen = self._warehouse.freeze(self._directory / "frozen.duckdb")
        if frozen is None:
            return {}
        try:
            with self._connect() as target, self._opened(frozen.database) as source:
                source.execute(f"USE {COMPATIBLE}")
                return _Export(target, source, self._settings.schema_name, self._warehouse.shown).run(frozen)
        except psycopg.OperationalError as error:
            raise Transient(f"PostgreSQL: {_brief(error)}") from error
        except psycopg.Error as error:
            raise Permanent(f"PostgreSQL: {_brief(error)}") from error
        except duckdb.Error as error:
            raise Transient(f"reading the database for PostgreSQL failed: {first_line(error)}") from error

    def _opened(self, database: Path) -> duckdb.DuckDBPyConnection:
        return opening.connect(str(database), read_only=True, config=modest(self._directory))

    def _connect(self) -> Connection:
        options: dict[str, str | int | None] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "bikeflow",
            "client_encoding": "UTF8",
            "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c timezone=UTC",
        }
        try:
            conninfo = make_conninfo(self._settings.dsn.get_secret_value(), **options)
        except psycopg.ProgrammingError:
            # raised below: what the driver says of it may quote the password
            conninfo = ""
        if not conninfo:
            raise Permanent("PostgreSQL: postgres.dsn is no connection string, such as postgresql://user:...@host/db")
        return psycopg.connect(conninfo, autocommit=True)


class _Export:
    """One export, from an open copy of the published database to an open connection."""

    def __init__(self, target: Connection, source: duckdb.DuckDBPyConnection, schema: str, shown: str) -> None:
        self._shown = shown
        self._target = target
        self._source = source
        self._schema = schema

    def run(self, frozen: Frozen) -> dict[str, object]:
        """Write all that has changed; `skipped_rows` counts all that PostgreSQL lacks now, whenever it was left out."""
        with self._target.transaction():
            for table in _KEYS:
                self._create(table)
            self._execute("CREATE TABLE IF NOT EXISTS {} (date date PRIMARY KEY, files text NOT NULL)", DAYS)
            self._execute("ALTER TABLE {} ADD COLUMN IF NOT EXISTS skipped_rows bigint NOT NULL DEFAULT 0", DAYS)
        with self._target.transaction():
            latest = [self._upsert(table, f"FROM {table}", "true") for table in LATEST]
        rows, skipped = (sum(counts) for counts in zip(*latest, strict=True))
        known = {row[0]: row[1] for row in self._execute("SELECT date, files FROM {}", DAYS).fetchall()}
        wanted = _days(frozen.files, self._shown, self._source.execute(_COVERAGE).fetchall())
        # the newest first: they are what people look at
        changed = {day for day in known.keys() | wanted.keys() if known.get(day) != wanted.get(day)}
        for day in sorted(changed, key=str, reverse=True):
            rows += self._write_day(day, wanted.get(day))
        for (count,) in self._execute("SELECT coalesce(sum(skipped_rows), 0)::bigint FROM {}", DAYS).fetchall():
            skipped += int(str(count))
        return {"rows": rows, "days": len(changed), "skipped_rows": skipped}

    def _write_day(self, day: object, files: str | None) -> int:
        with self._target.transaction():
            rows, skipped = self._upsert(HOURLY, f"FROM {HOURLY} WHERE date = DATE '{day}'", f"date = DATE '{day}'")
            self._execute("DELETE FROM {} WHERE date = %s", DAYS, [day])
            if files is not None:
                self._execute(
                    "INSERT INTO {} (date, files, skipped_rows) VALUES (%s, %s, %s)", DAYS, [day, files, skipped]
                )
        return rows

    def _create(self, table: str) -> None:
        """Make the table, or give one of an earlier version the columns that it lacks."""
        self._target.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
        columns = [(name, _TYPES.get(kind, kind.lower())) for name, kind in self._columns(table)]
        key = sql.SQL(", ").join(map(sql.Identifier, _KEYS[table]))
        defined = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns]
        created = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({}))")
        self._target.execute(created.format(self._named(table), sql.SQL(", ").join(defined), key))
        for definition in defined:
            added = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}")
            self._target.execute(added.format(self._named(table), definition))

    def _upsert(self, table: str, query: str, scope: str) -> tuple[int, int]:
        """Make the rows of the table within `scope` those of the query; returns how many, and how many are left out."""
        names = [name for name, _ in self._columns(table)]
        staged = sql.Identifier("staged")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        self._target.execute(
            sql.SQL("CREATE TEMP TABLE {} (LIKE {}) ON COMMIT DROP").format(staged, self._named(table))
        )
        counts = self._copy(sql.SQL("COPY {} ({}) FROM STDIN").format(staged, columns), table, query)
        parts = {
            "table": self._named(table),
            "staged": staged,
            "columns": columns,
            "key": sql.SQL(", ").join(map(sql.Identifier, _KEYS[table])),
            "excluded": sql.SQL(", ").join(sql.Identifier("excluded", name) for name in names),
            "current": sql.SQL(", ").join(sql.Identifier("t", name) for name in names),
            "scope": sql.SQL(scope),
        }
        same_key = [sql.SQL("s.{0} = t.{0}").format(sql.Identifier(name)) for name in _KEYS[table]]
        self._target.execute(
            sql.SQL(
                "DELETE FROM {table} AS t WHERE {scope} AND NOT EXISTS (SELECT FROM {staged} AS s WHERE {same_key})"
            ).format(**parts, same_key=sql.SQL(" AND ").join(same_key))
        )
        # rows that are the same are not written again: each would be a dead one for the vacuum
        self._target.execute(
            sql.SQL(
                "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {staged} ON CONFLICT ({key}) DO UPDATE"
                " SET ({columns}) = ROW ({excluded}) WHERE ROW ({current}) IS DISTINCT FROM ROW ({excluded})"
            ).format(**parts)
        )
        self._target.execute(sql.SQL("DROP TABLE {}").format(staged))
        return counts

    def _copy(self, statement: sql.Composed, table: str, query: str) -> tuple[int, int]:
        """Copy the rows that PostgreSQL can hold; returns how many, and how many it can't."""
        result, rows, skipped = self._source.execute(f"SELECT *, {self._held(table)} {query}"), 0, 0
        with self._target.cursor() as cursor, cursor.copy(statement) as copy:
            while batch := result.fetchmany(_BATCH_ROWS):
                for *values, held in batch:
                    if held:
                        copy.write_row([_storable(value) for value in values])
                        rows += 1
                    else:
                        skipped += 1
        return rows, skipped

    def _held(self, table: str) -> str:
        """The SQL condition on a row of the table that PostgreSQL can hold it."""
        checked = [
            _HELD[kind].format(quoted_name(name))
            for name, kind in self._columns(table)
            if kind in _HELD and (kind != "VARCHAR" or name in _KEYS[table])
        ]
        return f"coalesce({' AND '.join(checked)}, true)"

    def _columns(self, table: str) -> list[tuple[str, str]]:
        return [(str(row[0]), str(row[1])) for row in self._source.execute(f"DESCRIBE {table}").fetchall()]

    def _named(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)

    def _execute(self, statement: str, table: str, values: Sequence[object] = ()) -> psycopg.Cursor[tuple[object, ...]]:
        return self._target.execute(sql.SQL(statement).format(self._named(table)), values)


def _days(files: Mapping[Segment, Path], system_id: str, coverage: Iterable[tuple[dt.date, str]]) -> dict[object, str]:
    """What each day of the system is made of, as a digest: coverage, and files, whose names tell their versions.

    A day begins with what the day before ended with.
    """
    names: defaultdict[dt.date, list[str]] = defaultdict(list)
    for segment, path in files.items():
        if segment.partition.system_id == system_id:
            names[segment.partition.day].append(path.name)
    known = dict(coverage)
    found: dict[object, str] = {}
    for day, own in names.items():
        told = [*sorted(own), *sorted(names.get(day - dt.timedelta(days=1), ())), known.get(day, "")]
        found[day] = hashlib.sha256("\n".join(told).encode()).hexdigest()
    return found


def _storable(value: object) -> object:
    """PostgreSQL has no text with a NUL in it."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _brief(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
