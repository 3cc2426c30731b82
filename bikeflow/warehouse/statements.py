"""The warehouse's SQL: one file a table or view, which begins with the comment that documents it.

`sql/partials/<table>.sql` is a query over one segment's file (`$file`); its rows are kept for each segment, so that a
refresh reads only the segments that changed. `sql/published/<order>_<object>.sql` creates an object of the published
database; in it, `{files}` stands for the list of all segments' files. A view or table is added by adding its file.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from bikeflow.schema import ENHANCED

SCHEMA = "wrm_analytics"
_FILES = "{files}"
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
        """Whether it is created anew at each publication: tables, and views of the files themselves."""
        return self.kind == "TABLE" or _FILES in self.sql

    def create_sql(self, files: Iterable[Path]) -> str:
        """The statement that creates it over these files."""
        return self.sql.replace(_FILES, f"[{', '.join(quoted(glob.escape(str(file))) for file in files)}]")

    @property
    def comment_sql(self) -> str:
        """The statement that keeps the object's documentation in the database."""
        return f"COMMENT ON {self.kind} {SCHEMA}.{self.name} IS {quoted(self.comment)}"


@cache
def partials() -> dict[str, str]:
    """The query of each table of partial results, by the table's name."""
    return {name.removesuffix(".sql"): text.rstrip().rstrip(";") for name, text in _files("partials").items()}


@cache
def published() -> tuple[PublishedObject, ...]:
    """The published objects, in the order in which they can be created."""
    return tuple(_object(text) for text in _files("published").values())


@cache
def stamp() -> str:
    """Changes whenever the partial results would: a working database with another stamp is built anew."""
    text = "\n".join([*partials(), *partials().values(), str(ENHANCED)])
    return hashlib.sha256(text.encode()).hexdigest()


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _files(folder: str) -> dict[str, str]:
    files = resources.files("bikeflow.warehouse").joinpath("sql", folder).iterdir()
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(files, key=lambda file: file.name)}


def _object(text: str) -> PublishedObject:
    created = _CREATED.search(text)
    if created is None:
        raise ValueError(f"creates neither a view nor a table: {text!r}")
    lines = text[: created.start()].splitlines()
    comment = " ".join(line.removeprefix("--").strip() for line in lines)
    return PublishedObject(created[3], created[1], text, comment.strip())
