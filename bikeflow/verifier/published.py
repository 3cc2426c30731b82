"""The published database against the lake: the same rows of the same raw files, and tables that follow from them."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import SegmentObject
from bikeflow.feeds import layout_of
from bikeflow.ledger import FILE_NAME, Ledger
from bikeflow.runtime.lock import holder
from bikeflow.settings import Settings
from bikeflow.verifier.fingerprints import NOTHING, Fingerprints, of_relation
from bikeflow.verifier.remade import compare_objects, compare_runs, remade_database
from bikeflow.verifier.report import Days, Report, day_of
from bikeflow.verifier.system import Audited
from bikeflow.warehouse.mirror import mirrored_file
from bikeflow.warehouse.statements import SCHEMA, quoted
from bikeflow.warehouse.warehouse import published_path

HISTORY = f"{SCHEMA}.history"
FILES = f"""
SELECT s3_source_key, size_bytes, md5, "lines", "rows", rejected
FROM {SCHEMA}.pipeline_files
WHERE system_id = $1
"""  # noqa: S608


class PublishedDatabase:
    """The database that a service has published, and the mirror beside it; its methods block."""

    def __init__(self, settings: Settings) -> None:
        self.path = published_path(settings.warehouse, settings.data_dir)
        self._settings = settings

    @property
    def is_owed(self) -> bool:
        """Whether there is one here, or should be: a lake can be verified from any machine."""
        return self.path.exists() or (self._settings.data_dir / FILE_NAME).exists()

    def compare_copy(self, segment: SegmentObject, data: bytes, report: Report) -> None:
        """The mirror's copy of a segment's file, where there is one, has its content."""
        copy = mirrored_file(self._settings.data_dir, segment)
        try:
            same = hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(data).digest()
        except FileNotFoundError:
            return  # not fetched yet, or no longer: the rows will tell
        except OSError as error:
            report.find("copy_unreadable", segment.key, f"its copy {copy}: {error.strerror}")
            return
        if not same:
            report.find("copy_differs", segment.key, f"its copy {copy} has another content")

    def compare(
        self, audited: Mapping[str, Audited], wanted: Mapping[str, Days], report: Report, *, whole: bool
    ) -> None:
        """The history holds the lake's rows of the wanted days of each system, each once, and nothing else.

        Where this is the `whole` lake and nothing was found so far, all other tables are compared with those of a
        database that is made anew.
        """
        if not self.path.exists():
            if any(found.enhanced.rows for found in audited.values()):
                report.find("database_missing", str(self.path), "there is no published database")
            return
        try:
            with duckdb.connect(self.path, read_only=True) as connection:
                for system_id, found in audited.items():
                    _compare_system(connection, system_id, found, wanted[system_id], report)
        except (duckdb.Error, OSError) as error:
            report.find("database_unreadable", str(self.path), str(error).splitlines()[0])
            return
        if whole and not report.findings:  # else the tables can only follow from what is wrong
            self._compare_tables(report)

    def _compare_tables(self, report: Report) -> None:
        """With what follows from the very files that the database names: a service may publish meanwhile."""
        busy = holder(self._settings.data_dir) is not None
        with tempfile.TemporaryDirectory(prefix="bikeflow-verify-") as folder, self._ledger(at_rest=not busy) as ledger:
            reports = None if ledger is None else ledger.reports
            try:
                with duckdb.connect(self.path, read_only=True) as published:
                    remade = remade_database(self._settings, Path(folder), published, None if busy else reports)
                    with duckdb.connect(remade.path, read_only=True) as fresh:
                        faults = dict(compare_objects(published, fresh, remade))
                    faults.update(compare_runs(published, reports) if reports is not None else ())
                report.tables = len(remade.compared)
            except (BikeflowError, duckdb.Error) as error:
                faults = {"": str(error).partition("\n")[0]}
        for name, message in faults.items():
            report.find("database_differs", f"{self.path}:{name}" if name else str(self.path), message)

    @contextlib.contextmanager
    def _ledger(self, *, at_rest: bool) -> Iterator[Ledger | None]:
        """The ledger, which alone knows of runs; None where there is none that can be read."""
        settings = self._settings
        if not (settings.data_dir / FILE_NAME).exists():
            yield None
            return
        layouts, minutes = [layout_of(system) for system in settings.all_systems], settings.processing.segment_minutes
        try:
            ledger = Ledger(settings.data_dir, layouts, minutes, read_only=True, at_rest=at_rest)
        except (BikeflowError, sqlite3.Error):
            yield None
            return
        with ledger:
            yield ledger


def _compare_system(
    connection: duckdb.DuckDBPyConnection, system_id: str, audited: Audited, wanted: Days, report: Report
) -> None:
    """The rows that the database has of one system, and what it tells of its raw files."""
    relation = f"(FROM {HISTORY} WHERE system_id = {quoted(system_id)})"
    history = of_relation(connection, relation, "enhanced")
    history = {key: item for key, item in history.items() if wanted(day_of(key))}
    report.published = (report.published or 0) + len(history)
    lake = audited.enhanced.rows
    for key in sorted(history.keys() | lake.keys()):
        found, expected = history.get(key, NOTHING), lake.get(key, NOTHING)
        if found.rows != expected.rows:
            message = f"{expected.rows} rows in the lake, {found.rows} in the database"
            report.find("database_differs", key, message, system_id)
        elif found != expected:
            message = f"its {found.rows} rows in the database are not those of the lake"
            report.find("database_differs", key, message, system_id)
    files = connection.execute(FILES, [system_id]).fetchall()
    told = [row for row in files if wanted(day_of(str(row[0])))]
    for key, message in _compare_files(told, lake, audited.facts):
        report.find("database_differs", key, message, system_id)


def _compare_files(
    files: Sequence[tuple[object, ...]], lake: Fingerprints, facts: Mapping[str, tuple[object, ...]]
) -> Iterator[tuple[str, str]]:
    """What the database tells of each raw file is so; each that has rows is in it, once."""
    told: dict[str, tuple[object, ...]] = {}
    for key, *counts in files:
        name = str(key)
        if name in told:
            yield name, "pipeline_files has it twice"
        told[name] = tuple(counts)
        if name not in facts:
            yield name, "pipeline_files has it, but there is no such raw file"
        elif told[name] != facts[name]:
            yield name, f"pipeline_files tells {told[name]}, but it is {facts[name]}"
    for key in sorted((lake.keys() & facts.keys()) - told.keys()):
        yield key, "pipeline_files lacks it"
