"""A database that is made anew from the lake, and the published one against it, table by table."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bikeflow.ledger.reports import Reports
from bikeflow.model import RawFileFact, Run
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse.facts import KEPT
from bikeflow.warehouse.mirror import empty_file, mirror_root
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.statements import PARTS, SCHEMA, published
from bikeflow.warehouse.warehouse import Warehouse

_HISTORY = {"wrm_history", "wrm_stations_enhanced_data", "wrm_stations_only", "wrm_bikes_only"}
"""Views of all rows, which are compared row by row elsewhere: their definitions are compared."""
_BY_PIECES = {"pipeline_segments"}
"""A segment that is being added to is in several rows of it; `data_quality`, which joins them, is compared."""
_OF_RUNS = {"pipeline_runs"}
_OF_THE_LEDGER = {"pipeline_files_without_rows", "pipeline_files", "data_quality"}
_TIMES = {"publication": "published_at"}
"""What no lake tells: when it was published."""
_DEFINITIONS = f"""
SELECT 'view ' || schema_name || '.' || view_name, sql || coalesce(comment, '') FROM duckdb_views()
WHERE schema_name = '{SCHEMA}'
UNION ALL
SELECT 'table ' || schema_name || '.' || table_name, sql || coalesce(comment, '') FROM duckdb_tables()
WHERE schema_name = '{SCHEMA}'
UNION ALL
SELECT 'column ' || table_name || '.' || column_name, data_type || coalesce(comment, '') FROM duckdb_columns()
WHERE schema_name = '{SCHEMA}'
UNION ALL
SELECT 'function ' || function_name, macro_definition FROM duckdb_functions() WHERE schema_name = '{PARTS}'
UNION ALL
SELECT 'view ' || view_name, sql FROM duckdb_views()
WHERE schema_name = '{PARTS}' AND NOT regexp_matches(view_name, '_(recent|settled)$')
"""  # noqa: S608
_RUNS = """
SELECT run_id, date, started_at, finished_at, outcome, segments, files, "lines", "rows", rejected, error, traces
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
    settings: WarehouseSettings, folder: Path, files: Mapping[str, Path], reports: Reports | None
) -> Remade:
    """Make a database in `folder` from the files of all segments, by name; raises Transient, Permanent."""
    own = settings.model_copy(update={"path": None, "mode": "local"})
    write_empty(empty_file(mirror_root(folder)))
    warehouse = Warehouse(own, folder, _NoRuns(reports))
    try:
        warehouse.refresh(files)
    finally:
        warehouse.close()
    left_out = _HISTORY | _BY_PIECES | _OF_RUNS | (_OF_THE_LEDGER if reports is None else set())
    return Remade(warehouse.path, tuple(item.name for item in published() if item.name not in left_out))


def named_files(published: duckdb.DuckDBPyConnection) -> dict[str, Path]:
    """The mirror's files that a published database names, by segment."""
    rows = published.execute(
        "SELECT sql FROM duckdb_views() WHERE schema_name = $1 AND view_name IN ('files_recent', 'files_settled')",
        [PARTS],
    ).fetchall()
    patterns = [line for (sql,) in rows for text in _LIST.findall(sql) for line in text.replace("''", "'").split("\n")]
    paths = [Path(_ESCAPED.sub(r"\1", pattern)) for pattern in patterns]
    return {f"{path.parent.name}/{path.name.rsplit('.', 2)[0]}": path for path in paths if path.stem != "empty"}


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
    told = {row[0]: row for row in rows}
    began = min((run.started_at for run in known.values()), default=None)
    published_at = found.execute(f"SELECT max(published_at) FROM {SCHEMA}.publication").fetchone()  # noqa: S608
    latest = published_at[0] - _SETTLED if published_at and published_at[0] else dt.datetime.min  # noqa: DTZ901
    oldest = min((row[2] for row in rows), default=None) if len(rows) >= KEPT else None
    wrong = len(told) != len(rows)
    for run_id, row in told.items():
        if run_id in known:
            wrong |= row != _values(known[run_id])
        else:
            wrong |= began is not None and row[2] > _naive(began)
    for run_id, run in known.items():
        if run_id not in told and _naive(run.finished_at) < latest:
            wrong |= oldest is None or _naive(run.started_at) > oldest
    if wrong:
        yield "pipeline_runs", "its runs are not those of the ledger"


def _values(run: Run) -> tuple[object, ...]:
    times = (_naive(run.started_at), _naive(run.finished_at))
    counts = (run.segments, run.files, run.lines, run.rows, run.rejected)
    return (run.run_id, run.partition, *times, run.outcome, *counts, run.error, list(run.traces))


def _naive(at: dt.datetime) -> dt.datetime:
    return at.astimezone(dt.UTC).replace(tzinfo=None)
