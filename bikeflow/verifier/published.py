"""The published database against the lake: the same rows of the same raw files, and tables that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import duckdb

from bikeflow.core.layout import day_of
from bikeflow.core.model import FileRecord, SegmentObject
from bikeflow.ledger import FILE_NAME
from bikeflow.settings import Settings
from bikeflow.verifier.fingerprints import NOTHING, of_relation
from bikeflow.verifier.report import Days, Report
from bikeflow.verifier.system import SystemAudit
from bikeflow.verifier.tables import compare_tables
from bikeflow.warehouse.mirror import mirrored_file
from bikeflow.warehouse.statements import SCHEMA, quoted
from bikeflow.warehouse.warehouse import published_path

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
            same = copy.read_bytes() == data
        except FileNotFoundError:
            return  # not fetched yet, or no longer: the rows will tell
        except OSError as error:
            report.find("copy_unreadable", segment.key, f"its copy {copy}: {error.strerror}")
            return
        if not same:
            report.find("copy_differs", segment.key, f"its copy {copy} has another content")

    def compare(
        self, audited: Mapping[str, SystemAudit], wanted: Mapping[str, Days], report: Report, *, whole: bool
    ) -> None:
        """The history holds the lake's rows of the wanted days of each system, each once, and nothing else.

        Where this is the `whole` lake and nothing was found so far, all other tables are compared with those of a
        database that is rebuilt.
        """
        if not self.path.exists():
            if any(audit.enhanced.rows for audit in audited.values()):
                report.find("database_missing", str(self.path), "there is no published database")
            return
        try:
            with duckdb.connect(self.path, read_only=True) as connection:
                for system_id, audit in audited.items():
                    for key, message in _differences(connection, system_id, audit, wanted[system_id], report):
                        report.find("database_differs", key, message, system_id)
        except (duckdb.Error, OSError) as error:
            report.find("database_unreadable", str(self.path), str(error).splitlines()[0])
            return
        if whole and not report.findings:  # else the tables can only follow from what is wrong
            compare_tables(self._settings, self.path, report)


def _differences(
    connection: duckdb.DuckDBPyConnection, system_id: str, audit: SystemAudit, wanted: Days, report: Report
) -> Iterator[tuple[str, str]]:
    """The raw files of one system whose rows in the database are not those in the lake, and how they differ."""
    relation = f"(FROM {SCHEMA}.history WHERE system_id = {quoted(system_id)})"
    history = of_relation(connection, relation, "enhanced")
    history = {key: item for key, item in history.items() if wanted(day_of(key)) and key not in audit.unwritten}
    report.published = (report.published or 0) + len(history)
    lake = {key: item for key, item in audit.enhanced.rows.items() if key not in audit.unwritten}
    for key in sorted(history.keys() | lake.keys()):
        found, expected = history.get(key, NOTHING), lake.get(key, NOTHING)
        if found.rows != expected.rows:
            yield key, f"{expected.rows} rows in the lake, {found.rows} in the database"
        elif found != expected:
            yield key, f"its {found.rows} rows in the database are not those of the lake"
    told = [FileRecord(*row) for row in connection.execute(FILES, [system_id]).fetchall()]
    told = [record for record in told if wanted(day_of(record.key)) and record.key not in audit.unwritten]
    yield from _file_differences(told, audit)


def _file_differences(told: Sequence[FileRecord], audit: SystemAudit) -> Iterator[tuple[str, str]]:
    """Where `pipeline_files` is wrong about a raw file, or lacks one that has rows."""
    times = Counter(record.key for record in told)
    for record in told:
        fact = audit.facts.get(record.key)
        if times[record.key] > 1:
            yield record.key, "pipeline_files has it twice"
        if fact is None and record.key not in audit.missing:
            yield record.key, "pipeline_files has it, but there is no such raw file"
        elif fact is not None and record != fact:
            yield record.key, f"pipeline_files tells {record}, but it is {fact}"
    for key in sorted((audit.enhanced.rows.keys() & audit.facts.keys()) - times.keys()):
        yield key, "pipeline_files lacks it"
