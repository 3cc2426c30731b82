"""The published database against the lake: the same rows of the same raw files, and tables that follow from them."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from bikeflow.errors import BikeflowError
from bikeflow.layout import Layout
from bikeflow.ledger import FILE_NAME, Ledger
from bikeflow.lock import holder
from bikeflow.model import SegmentObject
from bikeflow.settings import Settings
from bikeflow.verifier.fingerprints import NOTHING, Fingerprints, of_relation
from bikeflow.verifier.layers import LayerContent
from bikeflow.verifier.remade import compare_objects, compare_runs, named_files, remade_database
from bikeflow.verifier.report import Days, Report, partition_of
from bikeflow.warehouse.mirror import mirrored_file
from bikeflow.warehouse.statements import SCHEMA
from bikeflow.warehouse.warehouse import published_path

HISTORY = f"{SCHEMA}.wrm_stations_enhanced_data"
FILES = f'SELECT s3_source_key, size_bytes, md5, "lines", "rows", rejected FROM {SCHEMA}.pipeline_files'  # noqa: S608


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
        self, lake: LayerContent, facts: Mapping[str, tuple[object, ...]], wanted: Days, report: Report
    ) -> None:
        """The history holds the lake's rows of the wanted days, each once, and nothing else.

        `facts` are size, MD5 and counts of the raw files. Where no day is left out and nothing was found so far, all
        other tables are compared with those of a database that is made anew.
        """
        if not self.path.exists():
            if lake.rows:
                report.find("database_missing", str(self.path), "there is no published database")
            return
        self._compare_rows(lake.rows, facts, wanted, report)
        if lake.complete and not report.findings:  # else the tables can only follow from what is wrong
            self._compare_tables(report)

    def _compare_rows(
        self, lake: Fingerprints, facts: Mapping[str, tuple[object, ...]], wanted: Days, report: Report
    ) -> None:
        try:
            with duckdb.connect(self.path, read_only=True) as connection:
                history = of_relation(connection, HISTORY, "enhanced")
                files = connection.execute(FILES).fetchall()
        except (duckdb.Error, OSError) as error:
            report.find("database_unreadable", str(self.path), str(error).splitlines()[0])
            return
        history = {key: item for key, item in history.items() if wanted(partition_of(key))}
        report.published = len(history)
        for key in sorted(history.keys() | lake.keys()):
            found, expected = history.get(key, NOTHING), lake.get(key, NOTHING)
            if found.rows != expected.rows:
                report.find("database_differs", key, f"{expected.rows} rows in the lake, {found.rows} in the database")
            elif found != expected:
                report.find("database_differs", key, f"its {found.rows} rows in the database are not those of the lake")
        _compare_files(files, lake, facts, wanted, report)

    def _compare_tables(self, report: Report) -> None:
        """With what follows from the very files that the database names: a service may publish meanwhile."""
        busy = holder(self._settings.data_dir) is not None
        with tempfile.TemporaryDirectory(prefix="bikeflow-verify-") as folder, self._ledger(at_rest=not busy) as ledger:
            reports = None if ledger is None else ledger.reports
            try:
                with duckdb.connect(self.path, read_only=True) as published:
                    remade = remade_database(
                        self._settings.warehouse, Path(folder), named_files(published), None if busy else reports
                    )
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
        layout, minutes = Layout(settings.storage.prefix), settings.processing.segment_minutes
        try:
            ledger = Ledger(settings.data_dir, layout, minutes, read_only=True, at_rest=at_rest)
        except (BikeflowError, sqlite3.Error):
            yield None
            return
        with ledger:
            yield ledger


def _compare_files(
    files: Sequence[tuple[object, ...]],
    lake: Fingerprints,
    facts: Mapping[str, tuple[object, ...]],
    wanted: Days,
    report: Report,
) -> None:
    """What the database tells of each raw file is so; each that has rows is in it, once."""
    told: dict[str, tuple[object, ...]] = {}
    for key, *counts in files:
        name = str(key)
        if not wanted(partition_of(name)):
            continue
        if name in told:
            report.find("database_differs", name, "pipeline_files has it twice")
        told[name] = tuple(counts)
        if name not in facts:
            report.find("database_differs", name, "pipeline_files has it, but there is no such raw file")
        elif told[name] != facts[name]:
            report.find("database_differs", name, f"pipeline_files tells {told[name]}, but it is {facts[name]}")
    for key in sorted((lake.keys() & facts.keys()) - told.keys()):
        report.find("database_differs", key, "pipeline_files lacks it")
