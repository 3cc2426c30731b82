"""What the published database tells of itself: where each object comes from, what each object and column means.

Objects are described by the first comment of their SQL file, columns by `sql/columns.csv` (an empty object stands for
any), and what an object is made of is read from its SQL.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import cache
from importlib import resources

import duckdb
import pyarrow as pa

from bikeflow.warehouse.statements import (
    MIRRORED,
    SCHEMA,
    SEGMENT_ROWS,
    described,
    kept,
    partials,
    published,
    quoted,
    readings,
    rollups,
)

_SOURCES = re.compile(r"\b(?:partials|temp)\.(\w+)(?!\w|\()|\bwrm_analytics\.(\w+)|\{(\w+)\}")
_LAKE = (
    ("raw files", "lake", "feed", "feed", "Each snapshot as it was fetched, its encoding repaired."),
    ("processed layer", "lake", "raw files", "lake", "The lines that pass all checks, as Parquet by day."),
    ("enhanced layer", "lake", "raw files", "lake", "The same rows with what they are and how odd they are."),
    ("dead letters", "lake", "raw files", "lake", "The lines that do not pass, with the reason."),
    ("ledger", "index", "raw files", "lake", "What was seen in the lake, what ran, and what each file gave."),
    ("mirror", "local files", "enhanced layer", "lake", "Each version of a segment's file under a name of its own."),
    (SEGMENT_ROWS, "temporary table", "mirror", "local files", "The rows of a segment that are being read."),
    ("runs", "partial result", "ledger", "index", "The newest runs."),
    ("files_without_rows", "partial result", "ledger", "index", "Raw files that lie in no Parquet file."),
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
        return f"COMMENT ON {kind} {SCHEMA}.{self.object}{name} IS {quoted(self.description or '')}"


def lineage() -> tuple[Edge, ...]:
    """All edges, from the feed to the published objects."""
    kinds = {edge[0]: edge[1] for edge in _LAKE}
    kinds |= dict.fromkeys(partials(), "partial result") | dict.fromkeys(rollups(), "partial result")
    kinds |= dict.fromkeys(readings(), "temporary table") | dict.fromkeys(kept(), "kept files")
    kinds |= {item.name: item.kind.lower() for item in published()}
    made: list[tuple[str, str, str]] = []
    for name, query in (readings() | partials() | kept() | rollups()).items():
        text, comment = described(query)
        made.append((name, text, comment))
    made += [(item.name, item.query, item.comment) for item in published()]
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
        "CREATE OR REPLACE TEMP TABLE catalog_entries (number BIGINT, object VARCHAR, kind VARCHAR,"
        " column_name VARCHAR, position INTEGER, data_type VARCHAR, description VARCHAR, needs_files BOOLEAN)"
    )
    _insert(cursor, "lineage_edges", enumerate(map(astuple, lineage())))


def describe(cursor: duckdb.DuckDBPyConnection) -> list[Entry]:
    """Enter all objects and columns of the attached database `published` in the catalog's input; returns them."""
    found = cursor.execute(
        "SELECT table_name, column_name, column_index, data_type FROM duckdb_columns()"
        " WHERE database_name = 'published' ORDER BY column_index"
    ).fetchall()
    entries, reading = [], reading_files()
    for item in published():
        kind, needs_files = item.kind.lower(), item.name in reading
        entries.append(Entry(item.name, kind, None, 0, None, item.comment, needs_files))
        entries += [
            Entry(item.name, kind, column, position, data_type, meaning(item.name, column), needs_files)
            for table, column, position, data_type in found
            if table == item.name
        ]
    numbers = {item.name: number for number, item in enumerate(published())}
    _insert(cursor, "catalog_entries", ((numbers[entry.object], astuple(entry)) for entry in entries))
    return entries


def reading_files() -> set[str]:
    """The views that read Parquet files, themselves or by another view: a copy of the database elsewhere lacks them."""
    found = {"mirror", *kept()}
    for edge in lineage():  # in the order of their creation
        if edge.kind == "view" and edge.source in found:
            found.add(edge.object)
    return found


def meaning(table: str, column: str) -> str | None:
    """What a column of an object means, or None where nobody says."""
    return meanings().get((table, column)) or meanings().get(("", column))


@cache
def meanings() -> dict[tuple[str, str], str]:
    """`sql/columns.csv`: meaning by object (empty: any) and column."""
    text = resources.files("bikeflow.warehouse").joinpath("sql", "columns.csv").read_text(encoding="utf-8")
    return {(row["object"], row["column"]): row["meaning"] for row in csv.DictReader(text.splitlines())}


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


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: Iterable[tuple[int, tuple[object, ...]]]) -> None:
    columns = zip(*((number, *row) for number, row in rows), strict=True)
    cursor.register("entries", pa.table({f"column_{n}": list(column) for n, column in enumerate(columns)}))
    cursor.execute(f"INSERT INTO temp.{table} FROM entries")  # row by row it was half of a start
    cursor.unregister("entries")
