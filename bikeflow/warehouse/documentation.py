"""What the published database tells of itself: where each object comes from, what each object and column means.

Objects are described by the first comment of their SQL file, columns by `sql/columns.csv` (an empty object stands for
any), and what an object is made of is read from its SQL.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

import duckdb
import pyarrow as pa

from bikeflow.core.schema import FLAGS
from bikeflow.warehouse.statements import (
    COMPATIBLE,
    KEPT,
    LISTS,
    MIRRORED,
    MOVED,
    SCHEMA,
    PublishedObject,
    compatible,
    derived,
    described,
    published,
    quoted,
    readings,
)

_SOURCES = re.compile(r"\b(?:state|temp)\.(\w+)(?!\w|\()|\b(?:main|wrm_analytics)\.(\w+)|\{(\w+)\}")
_READ = re.compile(rf"\b({SCHEMA}|{COMPATIBLE})\.(\w+)")
_ROWS = "read_rows"
_LAKE = (
    ("raw files", "lake", "feed", "feed", "Each snapshot as it was fetched, its encoding repaired."),
    ("processed layer", "lake", "raw files", "lake", "The records that pass all checks, as Parquet by day."),
    ("enhanced layer", "lake", "raw files", "lake", "The same rows with what they are and how odd they are."),
    ("dead letters", "lake", "raw files", "lake", "The records that do not pass, with the reason."),
    ("ledger", "index", "raw files", "lake", "What was seen in the lake, what ran, and what each file gave."),
    ("mirror", "local files", "enhanced layer", "lake", "Each version of a segment's file under a name of its own."),
    (_ROWS, "temporary table", "mirror", "local files", "The rows that are being read: a partition's, or new ones."),
    ("current_rows", "derived table", _ROWS, "temporary table", "The rows of each system's newest snapshot."),
    ("former_rows", "temporary table", "current_rows", "derived table", "The newest rows that were known before."),
    ("totals", "derived table", "spans", "derived table", "Spans joined over all days before the first open one."),
    ("day_ends", "derived table", "spans", "derived table", "The last states of days that another one follows."),
    ("station_totals", "derived table", "station_changes", "derived table", "Sums over known time on sealed days."),
    ("station_totals", "derived table", "coverage", "derived table", "When that time is."),
    ("systems", "table", "feed", "feed", "The configured ones."),
    ("station_usual", "view", "station_changes", "derived table and kept files", "A file a system, once a local day."),
    ("station_usual", "view", "coverage", "derived table", "When what it is made of was known."),
    ("open_spans", "derived table", "totals", "derived table", "Those, and the spans of all days since."),
    ("polls", "lake", "feed", "feed", "What each poll came to, and copies of it on this machine."),
    ("poll_runs", "derived table", "polls", "lake", "Polls in a row that tell the same of a day's coverage."),
    ("coverage", "derived table", "poll_runs", "derived table", "When the state of a system is known by its polls."),
    ("coverage", "derived table", "file_runs", "derived table", "The same by raw files, where polls tell nothing."),
    (
        "forecast_flows",
        "derived table",
        "station_changes",
        "derived table",
        "What left and came on the last sealed days.",
    ),
    ("forecast_flows", "derived table", "coverage", "derived table", "When that is known."),
    ("station_forecast", "derived table", "forecast_flows", "derived table", "The rates that are learnt from it."),
    ("station_forecast", "derived table", "current_rows", "derived table", "What these are applied to."),
    ("forecast_bins", "derived table", "forecast_flows", "derived table", "Finished days, as they would be forecast."),
    ("forecast_bins", "derived table", "station_changes", "derived table", "What then happened."),
    ("forecast_scores", "derived table", "forecast_bins", "derived table", "The same, by day as well."),
    ("forecast_status", "derived table", "forecast_flows", "derived table", "How much there is of it."),
    ("moved", "derived table", "applied", "derived table", "The partitions whose rows lie in files by now."),
    *[
        (name, "local files", source, "derived table", "Rows of days that are not sealed yet, once there are many.")
        for source, name in MOVED.items()
    ],
    ("applied", "derived table", "mirror", "local files", "The files that each partition was derived from."),
    ("runs", "derived table", "ledger", "index", "The newest runs."),
    ("files_without_rows", "derived table", "ledger", "index", "Raw files that lie in no Parquet file."),
)


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing that an object is made of."""

    object: str
    kind: str
    source: str
    source_kind: str
    how: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What an object (no column, position 0), or one column of it, means."""

    schema: str
    object: str
    kind: str
    column_name: str | None
    position: int
    data_type: str | None
    description: str | None
    needs_files: bool

    @property
    def comment_sql(self) -> str:
        """The statement that keeps it in the database."""
        kind, name = ("COLUMN", f".{quoted_name(self.column_name)}") if self.column_name else (self.kind.upper(), "")
        return f"COMMENT ON {kind} {self.schema}.{self.object}{name} IS {quoted(self.description or '')}"


def lineage() -> tuple[Edge, ...]:
    """All edges, from the feed to the published objects.

    A view in `wrm_analytics` that has the name of what it shows one system of is left out.
    """
    kinds = {edge[0]: edge[1] for edge in _LAKE}
    kinds |= dict.fromkeys(readings(), "temporary table")
    kinds |= {name: "derived table and kept files" if name in KEPT else "derived table" for name in derived()}
    objects = (*published(), *(item for item in compatible("") if item.name not in {own.name for own in published()}))
    kinds |= {item.name: item.kind.lower() for item in objects}
    made: list[tuple[str, str, str]] = []
    for name, query in (readings() | derived()).items():
        text, comment = described(query)
        made.append((name, text, comment))
    made += [(item.name, item.query, item.comment) for item in objects]
    edges = [Edge(*edge) for edge in _LAKE]
    for name, text, comment in made:
        edges += [Edge(name, kinds[name], source, kinds[source], comment) for source in _sources(name, text, kinds)]
    return tuple(edges)


def create_inputs(cursor: duckdb.DuckDBPyConnection) -> None:
    """The temporary tables that lineage and catalog are filled from."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE lineage_edges (number BIGINT, object VARCHAR, kind VARCHAR, source VARCHAR,"
        " source_kind VARCHAR, how VARCHAR)"
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE catalog_entries (number BIGINT, schema_name VARCHAR, object VARCHAR,"
        " kind VARCHAR, column_name VARCHAR, position INTEGER, data_type VARCHAR, description VARCHAR,"
        " needs_files BOOLEAN)"
    )
    _insert(cursor, "lineage_edges", lineage())


def describe(
    cursor: duckdb.DuckDBPyConnection, objects: Sequence[PublishedObject], lists: Collection[str] = LISTS
) -> list[Entry]:
    """Enter `objects` and their columns in the catalog's input; the attached database `published` has them already.

    `lists` are those that have files.
    """
    found = defaultdict(list)
    for schema, table, *column in cursor.execute(
        "SELECT schema_name, table_name, column_name, column_index, data_type FROM duckdb_columns()"
        " WHERE database_name = 'published' ORDER BY column_index"
    ).fetchall():
        found[schema, table].append(column)
    entries, reading = [], reading_files(objects, lists)
    for item in objects:
        kind, needs_files = item.kind.lower(), (item.schema, item.name) in reading
        entries.append(Entry(item.schema, item.name, kind, None, 0, None, item.comment, needs_files))
        entries += [
            Entry(item.schema, item.name, kind, column, position, data_type, meaning(item.name, column), needs_files)
            for column, position, data_type in found[item.schema, item.name]
        ]
    _insert(cursor, "catalog_entries", entries)
    return entries


def needs_files_sql(objects: Iterable[PublishedObject], lists: Collection[str]) -> str:
    """The statement that lets the catalog tell which objects read files, where `lists` are those that have any."""
    listed = ", ".join(f"({quoted(schema)}, {quoted(name)})" for schema, name in sorted(reading_files(objects, lists)))
    return f"UPDATE {SCHEMA}.catalog SET needs_files = (schema_name, object) IN ({listed})"


def reading_files(objects: Iterable[PublishedObject], lists: Collection[str] = LISTS) -> set[tuple[str, str]]:
    """Schema and name of the views that read files of these lists, themselves or by others: a copy lacks these."""
    found: set[tuple[str, str]] = set()
    for item in objects:  # in the order of their creation
        read = {(schema, name) for schema, name in _READ.findall(item.query)}
        if item.kind == "VIEW" and (read & found or any(f"{{{name}}}" in item.query for name in lists)):
            found.add((item.schema, item.name))
    return found


def meaning(table: str, column: str) -> str | None:
    """What a column of an object means, or None where that is not documented."""
    generic = table.removeprefix("wrm_").replace("recent_", "open_")
    return meanings().get((generic, column)) or meanings().get(("", column))


@cache
def meanings() -> dict[tuple[str, str], str]:
    """Meaning by object (empty: any) and column: `sql/columns.csv`, and what the columns count that flags give."""
    text = resources.files("bikeflow.warehouse").joinpath("sql", "columns.csv").read_text(encoding="utf-8")
    flags = {("", flag): meaning for flag, meaning in FLAGS.items()}
    return flags | {(row["object"], row["column"]): row["meaning"] for row in csv.DictReader(text.splitlines())}


def quoted_name(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _sources(name: str, text: str, kinds: dict[str, str]) -> Iterator[str]:
    """What a query reads, each once, in the order of appearance."""
    found: list[str] = []
    for match in _SOURCES.finditer(text):
        source = next(group for group in match.groups() if group)
        source = "mirror" if source == MIRRORED else source
        if source in kinds and source != name and source not in found:
            found.append(source)
    yield from found


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Edge] | Sequence[Entry]) -> None:
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(rows[0])}
    cursor.register("entries", pa.table({"number": range(len(rows)), **columns}))
    cursor.execute(f"INSERT INTO temp.{table} FROM entries")  # row by row it was half of a start
    cursor.unregister("entries")
