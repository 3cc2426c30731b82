"""A database that is made anew from the lake, and the published one against it, table by table."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bikeflow.core.model import RawFileFact, Run, Segment
from bikeflow.ledger.reports import Reports
from bikeflow.segments.footer import footer_of
from bikeflow.settings import Settings
from bikeflow.warehouse.facts import KEPT
from bikeflow.warehouse.mirror import empty_file, mirror_root
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.statements import COMPATIBLE, MIRRORED, PARTS, SCHEMA, published
from bikeflow.warehouse.warehouse import Warehouse

_HISTORY = {"history"}
"""A view of all rows, which are compared row by row elsewhere: its definition is compared."""
_OF_RUNS = {"pipeline_runs"}
_OF_THE_LEDGER = {"pipeline_files_without_rows", "pipeline_files", "data_quality"}
_TIMES = {"publication": "published_at"}
"""What no lake tells: when it was published."""
_DEFINITIONS = f"""
SELECT 'view ' || schema_name || '.' || view_name, sql || coalesce(comment, '') FROM duckdb_views()
WHERE schema_name IN ('{SCHEMA}', '{COMPATIBLE}') AND NOT internal
UNION ALL
SELECT 'table ' || schema_name || '.' || table_name, sql || coalesce(comment, '') FROM duckdb_tables()
WHERE schema_name = '{SCHEMA}' AND NOT internal
UNION ALL
SELECT 'column ' || schema_name || '.' || table_name || '.' || column_name, data_type || coalesce(comment, '')
FROM duckdb_columns()
WHERE schema_name IN ('{SCHEMA}', '{COMPATIBLE}') AND NOT internal
UNION ALL
SELECT 'function ' || function_name, macro_definition FROM duckdb_functions() WHERE schema_name = '{PARTS}'
UNION ALL
SELECT 'view ' || view_name, sql FROM duckdb_views()
WHERE schema_name = '{PARTS}' AND NOT regexp_matches(view_name, '_(open|sealed)$')
"""  # noqa: S608
_RUNS = """
SELECT
    system_id, run_id, date, started_at, finished_at, outcome, segments, files, "lines", "rows", rejected, error, traces
FROM {schema}.pipeline_runs
"""
_LIST = re.compile(r"string_split\('((?:[^']|'')*)'")
_ESCAPED = re.compile(r"\[([*?[])\]")
_SETTLED = dt.timedelta(minutes=1)
"""A run that ended so long before a publication is in it."""


@dataclass(frozen=True, slots=True)
class Remade:
    """A database made anew, and the objects whose content can be compared with its."""

    path: Path
    compared: tuple[str, ...]


class _NoRuns:
    """All facts but the runs, which are compared by themselves."""

    def __init__(self, reports: Reports | None) -> None:
        self._reports = reports

    def runs_since(self, run_id: str | None, count: int) -> list[Run]:
        """No runs."""
        return []

    def files_without_rows(self, count: int) -> list[RawFileFact]:
        """What the ledger knows of them."""
        return self._reports.files_without_rows(count) if self._reports is not None else []


def remade_database(
    settings: Settings, folder: Path, found: duckdb.DuckDBPyConnection, reports: Reports | None
) -> Remade:
    """Make a database in `folder` from the files that the one found names, as of when that was published.

    Raises Transient, Permanent.
    """
    files, at = named_files(found), _published_at(found) or dt.datetime.now(dt.UTC)
    own = settings.warehouse.model_copy(update={"path": None, "mode": "local"})
    root = mirror_root(folder)
    write_empty(empty_file(root))
    systems = [system.id for system in settings.all_systems]
    warehouse = Warehouse(own, folder, _NoRuns(reports), systems, now=lambda: at)
    try:
        warehouse.refresh({segment: _linked(path, root) for segment, path in files.items()})
    finally:
        warehouse.close()
    left_out = _HISTORY | _OF_RUNS | (_OF_THE_LEDGER if reports is None else set())
    return Remade(warehouse.path, tuple(item.name for item in published() if item.name not in left_out))


def named_files(published: duckdb.DuckDBPyConnection) -> dict[Segment, Path]:
    """The mirror's files that a published database names, by segment."""
    rows = published.execute(
        "SELECT sql FROM duckdb_views() WHERE schema_name = $1 AND view_name IN ($2, $3)",
        [PARTS, f"{MIRRORED}_open", f"{MIRRORED}_sealed"],
    ).fetchall()
    patterns = [line for (sql,) in rows for text in _LIST.findall(sql) for line in text.replace("''", "'").split("\n")]
    paths = [Path(_ESCAPED.sub(r"\1", pattern)) for pattern in patterns]
    found = {}
    for path in paths:
        footer = footer_of(path, path.parent.parent.name.removeprefix("system_id="))
        if footer is not None:
            found[footer.segment] = path
    return found


def _linked(path: Path, root: Path) -> Path:
    """A file of the mirror, in another mirror."""
    link = root.joinpath(*path.parts[-3:])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
    return link


def compare_objects(
    found: duckdb.DuckDBPyConnection, fresh: duckdb.DuckDBPyConnection, remade: Remade
) -> Iterator[tuple[str, str]]:
    """Names of objects that differ, and in what."""
    definitions = [dict(connection.execute(_DEFINITIONS).fetchall()) for connection in (found, fresh)]
    changed = sorted(name for name, _ in definitions[0].items() ^ definitions[1].items())
    if changed:  # another version may have published it, and its tables mean something else
        count = len(set(changed))
        yield "", f"{count} definitions are not those of this bikeflow, such as {changed[0]}: run `bikeflow refresh`"
        return
    for name in remade.compared:
        if not _is_same(found, fresh, name):
            yield name, "its content is not what follows from the lake"


def _is_same(found: duckdb.DuckDBPyConnection, fresh: duckdb.DuckDBPyConnection, name: str) -> bool:
    # sums of floats may differ in their last bits, by the order of adding
    return any(_digest(found, name, rounded=way) == _digest(fresh, name, rounded=way) for way in (False, True))


def _digest(connection: duckdb.DuckDBPyConnection, name: str, *, rounded: bool) -> object:
    """A number that depends on each value in an object's rows, and not on their order."""
    columns = [
        f"printf('%.9g', \"{column}\")" if rounded and kind == "DOUBLE" else f'"{column}"'
        for column, kind, *_ in connection.execute(f"DESCRIBE {SCHEMA}.{name}").fetchall()
        if _TIMES.get(name) != column
    ]
    sql = f"SELECT count(*), sum(hash({', '.join(columns)})::HUGEINT)::VARCHAR FROM {SCHEMA}.{name}"  # noqa: S608
    return connection.execute(sql).fetchone()


def compare_runs(found: duckdb.DuckDBPyConnection, reports: Reports) -> Iterator[tuple[str, str]]:
    """The runs in the database are those that the ledger knows, as far as its memory reaches."""
    known = {run.run_id: run for run in reports.runs_since(None, KEPT)}
    rows = found.execute(_RUNS.format(schema=SCHEMA)).fetchall()
    told = {row[1]: row for row in rows}
    began = min((run.started_at for run in known.values()), default=None)
    published_at = _published_at(found)
    latest = _naive(published_at - _SETTLED) if published_at else dt.datetime.min  # noqa: DTZ901
    oldest = min((row[3] for row in rows), default=None) if len(rows) >= KEPT else None
    wrong = len(told) != len(rows)
    for run_id, row in told.items():
        if run_id in known:
            wrong |= row != _values(known[run_id])
        else:
            wrong |= began is not None and row[3] > _naive(began)
    for run_id, run in known.items():
        if run_id not in told and _naive(run.finished_at) < latest:
            wrong |= oldest is None or _naive(run.started_at) > oldest
    if wrong:
        yield "pipeline_runs", "its runs are not those of the ledger"


def _published_at(connection: duckdb.DuckDBPyConnection) -> dt.datetime | None:
    row = connection.execute(f"SELECT max(published_at) FROM {SCHEMA}.publication").fetchone()  # noqa: S608
    return row[0].replace(tzinfo=dt.UTC) if row and row[0] else None


def _values(run: Run) -> tuple[object, ...]:
    times = (_naive(run.started_at), _naive(run.finished_at))
    counts = (run.segments, run.files, run.lines, run.rows, run.rejected)
    return (
        run.partition.system_id,
        run.run_id,
        run.partition.day,
        *times,
        run.outcome,
        *counts,
        run.error,
        list(run.traces),
    )


def _naive(at: dt.datetime) -> dt.datetime:
    return at.astimezone(dt.UTC).replace(tzinfo=None)
