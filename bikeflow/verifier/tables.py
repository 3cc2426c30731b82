"""The published database, table by table, against one that is rebuilt from the lake."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import UTC, Partition, Segment
from bikeflow.ledger import FILE_NAME
from bikeflow.ledger.database import Database
from bikeflow.ledger.runs import RunLog
from bikeflow.polls import Poll
from bikeflow.polls.poll import polls_of
from bikeflow.runtime.lock import holder
from bikeflow.segments.footer import read_footer
from bikeflow.settings import Settings
from bikeflow.verifier.report import Report
from bikeflow.warehouse.documentation import reading_files
from bikeflow.warehouse.facts import KEPT
from bikeflow.warehouse.mirror import empty_file, mirror_root
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.reading import files_by_view
from bikeflow.warehouse.statements import COMPATIBLE, LISTS, MIRRORED, MOVED, PARTS, POLLS, SCHEMA, published
from bikeflow.warehouse.warehouse import Warehouse

_RUNS = "pipeline_runs"
_LEFT_OUT = {"history", _RUNS}
"""The rows of these are compared one by one elsewhere."""
_BY_VIEWS = {"moved_days", *(f"recent_{name}" for name in MOVED)}
"""How many rows of open days lie in tables, and how many in files, goes with when they came: views have them all."""
_NEEDING_MOVED = {
    name for _, name in reading_files(published()) - reading_files(published(), set(LISTS) - set(MOVED.values()))
}
"""Objects that read files only once rows of open days lie in some."""
_OF_THE_FORECAST = {"station_forecast", "forecast_status", "forecast_bins", "forecast_scores"}
"""A service makes them of a new day bit by bit: until then they are not what a rebuilt database has."""
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
_WRONG_RUNS = """
SELECT count(*) > 0
FROM told
FULL JOIN known USING (run_id)
WHERE CASE
    WHEN known.started_at IS NULL THEN told.started_at > (SELECT min(started_at) FROM known)
    WHEN told.started_at IS NULL THEN known.finished_at < $settled
        AND ((SELECT count(*) FROM told) < $kept OR known.started_at > (SELECT min(started_at) FROM told))
    ELSE told IS DISTINCT FROM known
END
UNION ALL
SELECT count(*) > count(DISTINCT run_id) FROM told
"""
"""What one of the two does not know counts only as far as its memory reaches, and publications had time to come."""
_USUAL_WAITS = """
SELECT system_id
FROM main.systems
JOIN (SELECT system_id, max(ended_at) AS now FROM main.coverage GROUP BY system_id) USING (system_id)
LEFT JOIN (SELECT system_id, max(before_date) AS before_date FROM main.station_usual GROUP BY system_id)
    USING (system_id)
WHERE before_date IS DISTINCT FROM CAST(parts.local_time(now, timezone) AS DATE)
    AND hour(parts.local_time(now, timezone)) = 0
"""
"""Systems of which it is not written yet what is usual: with many systems, that takes a while after midnight."""
_SETTLED = dt.timedelta(minutes=1)
"""A run that ended so long before a publication is in it."""


def compare_tables(settings: Settings, path: Path, report: Report) -> None:
    """Compare all tables and views of a database with those that follow from the very files that it names.

    A service may publish meanwhile: then what only the ledger tells may be newer than the database.
    """
    busy = holder(settings.data_dir) not in (None, os.getpid())  # our own repairs publish nothing meanwhile
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bikeflow-verify-")))
        reports = _reports(settings.data_dir / FILE_NAME, stack, at_rest=not busy)
        left_out = _LEFT_OUT | _BY_VIEWS | (_OF_THE_LEDGER if busy or reports is None else set())
        try:
            found = stack.enter_context(duckdb.connect(path, read_only=True))
            left_out = left_out | (_OF_THE_FORECAST if _is_forecast_pending(found) else set())
            compared = [item.name for item in published() if item.name not in left_out]
            fresh = stack.enter_context(duckdb.connect(_rebuilt(settings, folder, found, reports), read_only=True))
            faults = dict(_differences(found, fresh, compared))
            if reports is not None and _runs_differ(found, fresh):
                faults[_RUNS] = "its runs are not those of the ledger"
            report.tables = len(compared)
        except (BikeflowError, duckdb.Error) as error:
            faults = {"": str(error).partition("\n")[0]}
    for name, message in faults.items():
        report.find("database_differs", f"{path}:{name}" if name else str(path), message)


def _reports(ledger: Path, stack: contextlib.ExitStack, *, at_rest: bool) -> RunLog | None:
    """What the ledger knows of runs and raw files; None where there is none that can be read."""
    try:
        database = Database(ledger, read_only=True, at_rest=at_rest)
    except (BikeflowError, sqlite3.Error):
        return None
    stack.callback(database.close)
    return RunLog(database)


def _rebuilt(settings: Settings, folder: Path, found: duckdb.DuckDBPyConnection, reports: RunLog | None) -> Path:
    """A database in `folder` of the files that the one found names, as of when that was published.

    Raises Transient, Permanent.
    """
    files, at = _named_segments(found), _published_at(found) or dt.datetime.now(UTC)
    own = settings.warehouse.model_copy(update={"path": None, "mode": "local"})
    root = mirror_root(folder)
    write_empty(empty_file(root))
    warehouse = Warehouse(own, folder, reports, settings.timezones, now=lambda: at, polls=_PublishedPolls(found))
    try:
        warehouse.refresh({segment: _linked(path, root) for segment, path in files.items()})
    finally:
        warehouse.close()
    return warehouse.path


class _PublishedPolls:
    """The record of polls that a published database shows."""

    identity = "published"
    changes = 1

    def __init__(self, published: duckdb.DuckDBPyConnection) -> None:
        self._published = published

    @property
    def copies(self) -> dict[Partition, Path]:
        """The files of closed days that it names."""
        paths = [path for path in _named_files(self._published, POLLS) if not path.parent.name.startswith("dt=0001")]
        return {
            Partition(
                path.parent.parent.name.removeprefix("system_id="),
                dt.date.fromisoformat(path.parent.name.removeprefix("dt=")),
            ): path
            for path in paths
        }

    def since(self, number: int) -> dict[int, Poll]:
        """Its rows of open days."""
        table = self._published.table("open_polls").to_arrow_table()
        return dict(enumerate(polls_of(table), start=1)) if number == 0 else {}


def _named_files(published: duckdb.DuckDBPyConnection, name: str) -> list[Path]:
    """The files of one list that a published database names."""
    views = files_by_view(published)
    return [Path(path) for view in (f"{name}_open", f"{name}_sealed") for path in views.get(view, {}).values()]


def _named_segments(published: duckdb.DuckDBPyConnection) -> dict[Segment, Path]:
    """The mirror's files that a published database names, by segment."""
    found = {}
    for path in _named_files(published, MIRRORED):
        footer = read_footer(path, path.parent.parent.name.removeprefix("system_id="))
        if footer is not None:
            found[footer.segment] = path
    return found


def _linked(path: Path, root: Path) -> Path:
    """A file of the mirror, in another mirror."""
    link = root.joinpath(*path.parts[-3:])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
    return link


def _differences(
    found: duckdb.DuckDBPyConnection, fresh: duckdb.DuckDBPyConnection, compared: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Names of objects that differ, and in what."""
    told, wanted = (connection.execute(_DEFINITIONS).fetchall() for connection in (found, fresh))
    changed = sorted({name for name, _ in {*told} ^ {*wanted}})
    if changed:  # another version may have published it, and its tables mean something else
        count = len(changed)
        yield "", f"{count} definitions are not those of this bikeflow, such as {changed[0]}: run `bikeflow refresh`"
        return
    waiting = [system_id for (system_id,) in found.execute(_USUAL_WAITS).fetchall()]
    for name in compared:
        if _digest(found, name, waiting) != _digest(fresh, name, waiting):
            yield name, "its content is not what follows from the lake"


def _digest(connection: duckdb.DuckDBPyConnection, name: str, waiting: list[str]) -> object:
    """A number that depends on each value in an object's rows, and not on their order."""
    columns = [
        # sums of floats may differ in their last bits, by the order of adding
        f"printf('%.9g', \"{column}\")" if kind == "DOUBLE" else f'"{column}"'
        for column, kind, *_ in connection.execute(f"DESCRIBE {SCHEMA}.{name}").fetchall()
        if _TIMES.get(name) != column
    ]
    if name == "catalog":
        columns[columns.index('"needs_files"')] = f"needs_files AND object NOT IN {tuple(sorted(_NEEDING_MOVED))}"
    sql = f"SELECT count(*), sum(hash({', '.join(columns)})::HUGEINT)::VARCHAR FROM {SCHEMA}.{name}"  # noqa: S608
    if name == "station_usual":
        return connection.execute(f"{sql} WHERE NOT list_contains($1, system_id)", [waiting]).fetchall()
    return connection.execute(sql).fetchall()


def _is_forecast_pending(found: duckdb.DuckDBPyConnection) -> bool:
    """Whether new days are still to be learnt from or scored; not of a database of another version."""
    with contextlib.suppress(duckdb.CatalogException):
        return bool(found.execute(f"SELECT 1 FROM {SCHEMA}.forecast_status WHERE pending > 0").fetchall())  # noqa: S608
    return False


def _runs_differ(found: duckdb.DuckDBPyConnection, fresh: duckdb.DuckDBPyConnection) -> bool:
    """Whether the runs in the database are not those that the ledger knows, as far as its memory reaches."""
    published_at = _published_at(found)
    settled = published_at and (published_at - _SETTLED).replace(tzinfo=None)
    with duckdb.connect(":memory:") as connection:
        for name, one in (("told", found), ("known", fresh)):
            connection.register(name, one.table(_RUNS).to_arrow_table())
        return (True,) in connection.execute(_WRONG_RUNS, {"settled": settled, "kept": KEPT}).fetchall()


def _published_at(connection: duckdb.DuckDBPyConnection) -> dt.datetime | None:
    ((at,),) = connection.execute(f"SELECT max(published_at) FROM {SCHEMA}.publication").fetchall()  # noqa: S608
    return at.replace(tzinfo=UTC) if at else None
