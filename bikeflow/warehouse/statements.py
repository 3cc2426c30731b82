"""The warehouse's SQL: one file a table or view, which begins with the comment that documents it.

`sql/readings/<order>_<table>.sql` is a query over one segment's file (`segment_rows`, its rows or those of some raw
files in it, and `$records`, what its footer tells of these): a temporary table, for as long as what follows is made of
it. `sql/partials/<table>.sql` is a query over these; its rows are kept for each segment, so that a refresh reads only
the segments that changed. `sql/kept/<name>.sql` is one too, but its rows are too many to be copied at each
publication: they are kept in a Parquet file beside the mirror's. `sql/rollups/current_x.sql` joins the rows that
`settled_x` has of a month's segments (between `$first_segment` and `$next_segment`), so that a refresh does not join
those of all history; both have the same columns. `sql/macros/` has what these share, `sql/shared/` what they share with
the published database. `sql/published/<order>_<object>.sql` creates an object of the published database; in it,
`{files}` stands for the rows of all segments' files, `{<name>}` for those of their kept ones, both with the partition
as `dt`. A view or table is added by adding its file.
"""

from __future__ import annotations

import glob
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from pathlib import Path

from bikeflow.schema import ENHANCED
from bikeflow.warehouse.facts import FILES, RUNS

SCHEMA = "wrm_analytics"
SEGMENT_ROWS = "segment_rows"
"""The rows of a segment's file that are being read, for `sql/readings`."""
PARTS = "parts"
"""The schema of the views that name the files; users have no need to know it."""

MIRRORED = "files"
_CREATED = re.compile(r"^CREATE OR REPLACE (VIEW|TABLE) (\w+)\.(\w+) AS$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """One object of the published database: what creates it, and what its comment tells."""

    name: str
    kind: str
    sql: str
    comment: str

    @property
    def changes(self) -> bool:
        """Whether it is filled anew at each publication, from partial results."""
        return self.kind == "TABLE" and "working." in self.sql

    @property
    def query(self) -> str:
        """What it holds; in it, files are named by their list."""
        return _query(self.sql[self.sql.index(" AS\n") + len(" AS\n") :])

    @property
    def create_sql(self) -> str:
        """The statement that creates it; a table is empty."""
        sql = self.sql if self.kind == "VIEW" else f"{_query(self.sql)}\nWITH NO DATA"
        for name in lists():
            sql = sql.replace(f"{{{name}}}", f"{PARTS}.{name}")
        return sql

    @property
    def fill_sql(self) -> str:
        """The statement that fills the table."""
        return f"INSERT INTO {SCHEMA}.{self.name}\n{self.query}"


def lists() -> tuple[str, ...]:
    """The lists of files that objects read: `files`, and the kept ones by their names."""
    return (MIRRORED, *kept())


@cache
def readings() -> dict[str, str]:
    """The query of each temporary table over a segment's file, by the table's name, in the order of their making."""
    return {name.partition("_")[2]: query for name, query in _queries("readings").items()}


@cache
def partials() -> dict[str, str]:
    """The query of each table of partial results, by the table's name: `settled_` and what is joined by months."""
    return _queries("partials")


@cache
def kept() -> dict[str, str]:
    """The query whose rows are kept in a Parquet file for each segment, by the files' common name."""
    return _queries("kept")


@cache
def rollups() -> dict[str, str]:
    """The query that joins the partial results of a month, by the table's name: `current_` and what is joined."""
    return _queries("rollups")


@cache
def macros() -> tuple[str, ...]:
    """The statements that create what the queries share."""
    return (*shared("partials"), *_queries("macros").values())


def shared(schema: str) -> tuple[str, ...]:
    """The statements that create in a schema what tells the cells of the grid, and which stations are empty or full."""
    return tuple(sql.replace("{schema}", schema) for sql in _queries("shared").values())


@cache
def published() -> tuple[PublishedObject, ...]:
    """The published objects, in the order in which they can be created."""
    return tuple(_object(text) for text in _files("published").values())


@cache
def stamp() -> str:
    """Changes whenever the partial results would: a working database with another stamp is built anew."""
    queries = [item for named in (readings(), partials(), kept(), rollups()) for pair in named.items() for item in pair]
    text = "\n".join([*queries, *macros(), str(ENHANCED), str(RUNS), str(FILES)])
    return hashlib.sha256(text.encode()).hexdigest()


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def pattern(file: Path) -> str:
    """What matches just this file where a pattern is expected."""
    return glob.escape(str(file))


def described(text: str) -> tuple[str, str]:
    """The statement in a file, and the comment above it as one line."""
    lines = text.splitlines()
    above = list(takewhile(lambda line: line.startswith("--"), lines))
    return "\n".join(lines[len(above) :]), " ".join(line.removeprefix("--").strip() for line in above)


def _queries(folder: str) -> dict[str, str]:
    return {name.removesuffix(".sql"): _query(text) for name, text in _files(folder).items()}


def _query(text: str) -> str:
    return text.rstrip().rstrip(";")


def _files(folder: str) -> dict[str, str]:
    files = resources.files("bikeflow.warehouse").joinpath("sql", folder).iterdir()
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(files, key=lambda file: file.name)}


def _object(text: str) -> PublishedObject:
    created = _CREATED.search(text)
    if created is None:
        raise ValueError(f"creates neither a view nor a table: {text!r}")
    return PublishedObject(created[3], created[1], text, described(text)[1])
