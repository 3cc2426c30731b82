"""The published database against the lake: the same rows of the same raw files, from copies that are whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb

from bikeflow.core.model import SegmentObject
from bikeflow.verifier.fingerprints import NOTHING, Fingerprints, of_relation
from bikeflow.verifier.report import Days, Report, partition_of
from bikeflow.warehouse.mirror import mirrored_file
from bikeflow.warehouse.statements import SCHEMA

HISTORY = f"{SCHEMA}.wrm_stations_enhanced_data"


class PublishedDatabase:
    """The database that a service has published, and the mirror beside it; its methods block."""

    def __init__(self, path: Path, data_dir: Path) -> None:
        self.path = path
        self._data_dir = data_dir

    def compare_copy(self, segment: SegmentObject, data: bytes, report: Report) -> None:
        """The mirror's copy of a segment's file, where there is one, has its content."""
        copy = mirrored_file(self._data_dir, segment)
        try:
            same = hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(data).digest()
        except FileNotFoundError:
            return  # not fetched yet, or no longer: the rows will tell
        except OSError as error:
            report.find("copy_unreadable", segment.key, f"its copy {copy}: {error.strerror}")
            return
        if not same:
            report.find("copy_differs", segment.key, f"its copy {copy} has another content")

    def compare(self, lake: Fingerprints, wanted: Days, report: Report) -> None:
        """The history holds the lake's rows of the wanted days, each once, and nothing else."""
        if not self.path.exists():
            if lake:
                report.find("database_missing", str(self.path), "there is no published database")
            return
        try:
            with duckdb.connect(self.path, read_only=True) as connection:
                history = of_relation(connection, HISTORY, "enhanced")
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
