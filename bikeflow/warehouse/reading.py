"""Read the published database with as few rights as possible: only its own files, and no change of settings.

Without this, a query could read and write any file with our rights: SQL has functions and statements for that, and each
version of DuckDB adds some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb

from bikeflow.core.errors import BikeflowError
from bikeflow.warehouse.statements import PARTS, quoted

READS = "SELECT (FROM, DESCRIBE, SHOW, SUMMARIZE, PIVOT, ...), EXPLAIN of these, SET VARIABLE and USE"
_READING = {"SELECT", "SET", "PRAGMA"}
"""Types of statements that read, once the configuration is locked. (Since 2.0, `PRAGMA show_tables` is a PRAGMA.)"""
_PIVOT_WORDS = {"PIVOT", "SELECT", "FROM", "WITH"}
_SIDE_EFFECTS = re.compile(r"\b((?:enable|disable)_(?:logging|profiling))\s*\(", re.IGNORECASE)
"""Functions that a SELECT can call, and DuckDB 1.5 does not lock. It refuses what they write, but may abort then."""
_LIST = re.compile(r"string_split\('((?:[^']|'')*)'")
_ESCAPED = re.compile(r"\[([*?[])\]")


def restrict(
    connection: duckdb.DuckDBPyConnection, *, files: Iterable[str] = (), directory: Path | None = None
) -> None:
    """Allow no file but these, nor those in `directory`, from now on, and no change of settings.

    DuckDB may read *and write* what is allowed: a directory is only for statements of our own.
    """
    connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, files))}]::VARCHAR[]")
    if directory is not None:
        connection.execute(f"SET allowed_directories = [{quoted(str(directory))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def named_files(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The files that the published database which is open or attached here names, and the patterns that name them."""
    # DuckDB asks for the pattern first, then for the file that it matches
    return sorted({name for listed in files_by_view(connection).values() for pair in listed.items() for name in pair})


def files_by_view(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """The files that each view of the published database names, by the pattern that names it."""
    views = connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE schema_name = $1", [PARTS]).fetchall()
    return {
        name: {
            pattern: _ESCAPED.sub(r"\1", pattern)
            for text in _LIST.findall(sql)
            for pattern in text.replace("''", "'").split("\n")
        }
        for name, sql in views
    }


def reading_statements(connection: duckdb.DuckDBPyConnection, sql: str) -> list[duckdb.Statement]:
    """The statements in `sql`; raises BikeflowError where one of them does more than read, and duckdb.Error."""
    statements = connection.extract_statements(sql)
    for statement in statements:
        if not _reads(connection, statement):
            raise _refusal(statement.type.name)
    if found := _SIDE_EFFECTS.search(sql):
        raise _refusal(found[1])
    return statements


def _reads(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    kind, text = statement.type.name, statement.query
    words = [text[offset:].lstrip() for offset, token in duckdb.tokenize(text) if token != duckdb.token_type.comment]
    match kind:
        case "CREATE":  # DuckDB 1.5 makes two statements of a PIVOT; the first is none of the user's
            return text == ""
        case "MULTI":  # DuckDB 2.0 makes one of all statements that have a PIVOT in them
            return bool(words) and re.split(r"\W", words[0], maxsplit=1)[0].upper() in _PIVOT_WORDS
        case "EXPLAIN":  # EXPLAIN ANALYZE runs what it explains
            inner = connection.extract_statements(_explained(words))
            return len(inner) == 1 and inner[0].type.name in ("SELECT", "PRAGMA")
    return kind in _READING


def _explained(words: list[str]) -> str:
    """What follows EXPLAIN and its options; `words` are the rests of the statement from each of its words on."""
    rest = words[1:]
    if rest and rest[0].startswith("("):
        while rest and not rest[0].startswith(")"):
            rest = rest[1:]
        rest = rest[1:]
    elif rest and re.match(r"analy[sz]e\b", rest[0], re.IGNORECASE):
        rest = rest[1:]
    return rest[0] if rest else ""


def _refusal(what: str) -> BikeflowError:
    return BikeflowError(f"query only reads: {READS}; not {what}\n--out FILE writes the result to a file")
