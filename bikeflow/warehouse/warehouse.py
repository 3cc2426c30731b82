"""The analytics database, kept current from the mirror: only what changed is read, the result replaces the old file."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import duckdb

from bikeflow.core.errors import BikeflowError, ConfigError, Permanent, Transient
from bikeflow.core.model import UTC, FileRecord, Partition, Publication, Segment, SegmentWritten
from bikeflow.ledger.runs import RunLog
from bikeflow.polls.archive import copies_root
from bikeflow.runtime.files import disk_errors
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.mirror import empty_file, mirror_root, version_of
from bikeflow.warehouse.moved import MovedRows
from bikeflow.warehouse.parquet import lacks_columns
from bikeflow.warehouse.parts import FileList
from bikeflow.warehouse.polls import NoPolls, PollSource, empty_polls
from bikeflow.warehouse.publishing import Publisher
from bikeflow.warehouse.state import (
    Addition,
    Contents,
    DamagedFiles,
    WorkingDatabase,
    first_line,
    is_sealed,
    quarantined,
)
from bikeflow.warehouse.statements import COMPATIBLE, KEPT, MIRRORED, MOVED, POLLS, USUAL, pattern
from bikeflow.warehouse.tables import Tables
from bikeflow.warehouse.usual import empty_usual

_PASSING = (
    "No space left", "Could not set lock", "Too many open files", "Cannot allocate memory", "Read-only file system",
    "Input/output error", "Disk quota exceeded",
)  # fmt: skip
LARGE_BYTES = 1024 * 1024
"""Where less is to be read, more than one thread costs more than it gives."""
FUTURE_TOLERANCE = dt.timedelta(minutes=5)
"""A snapshot later than now by more than this is dated in the future, and does not count before its time has come."""
REOPENED_AFTER = 256
"""After so many refreshes the databases are opened again: until then, DuckDB's notes of freed buffers grow to 10 MB.
Reopening takes a third of a second."""

Written = Mapping[Partition, Sequence[SegmentWritten]]
log = get_logger()


def published_path(settings: WarehouseSettings, data_dir: Path) -> Path:
    """Where the published database lies; raises ConfigError for a name that would make it unusable."""
    if settings.mode == "s3":  # the bucket has the one for others: this one is for our own pages and commands
        return (data_dir / "warehouse" / "analytics.duckdb").absolute()
    path = (settings.path or data_dir / "analytics.duckdb").absolute()
    if path.stem.lower() == COMPATIBLE:
        # DuckDB calls a database by its file: wrm_analytics.t could be the schema's or the database's
        raise ConfigError(
            f"warehouse.path = {path}: a database of this name hides its schema {COMPATIBLE}; call it otherwise"
        )
    return path


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one refresh did: partitions read whole, added to, removed; segments that can't be read; the publication."""

    read: int
    added: int
    removed: int
    damaged: tuple[Segment, ...]
    published: Publication


@dataclass(frozen=True, slots=True)
class Frozen:
    """A copy of the published database, and what it names: the mirror's files by segment, and where all of them lie.

    `kept` gives the kept files of a list by the sealed partition that they were derived from, and the polls of closed
    days, `moved` the files with rows of open days, `empty` a file without rows for each list, and `no_moved_rows` a
    query without rows for each list in `MOVED`.
    """

    database: Path
    files: Mapping[Segment, Path]
    kept: Mapping[str, Mapping[Partition, Path]]
    moved: Mapping[str, Sequence[Path]]
    no_moved_rows: Mapping[str, str]
    empty: Mapping[str, Path]


class Warehouse:
    """Working and published database over the mirror, all below `data_dir`.

    Its methods block, and are called from one thread at a time, except for `interrupt`. Whatever is found damaged is
    set aside and rebuilt from the mirror. `facts` is the ledger's record of runs and of raw files without rows, `polls`
    the record of polls (None: the database has none of these), `systems` are the configured systems with their time
    zones, `now` gives the time.
    """

    def __init__(
        self,
        settings: WarehouseSettings,
        data_dir: Path,
        facts: RunLog | None = None,
        systems: Mapping[str, str] = MappingProxyType({"wrm": "Europe/Warsaw"}),
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(UTC),
        polls: PollSource | None = None,
    ) -> None:
        self.path = published_path(settings, data_dir)
        for path in (self.path, data_dir.absolute()):
            # DuckDB takes the first two for a URL's query and a separator; the lists of files have a name a line
            if {"?", "\\", "\n"} & set(str(path)):
                raise ConfigError(f"DuckDB can't work with ?, \\ or a line break in a path; rename {str(path)!r}")
        self._settings = settings
        self._facts = facts
        self._polls = polls or NoPolls()
        self._systems = systems
        self.shown = settings.wrm_system or next(iter(systems))
        """The system that the views in `wrm_analytics` show."""
        self._now = now
        self._data_dir = data_dir
        self._directory = data_dir.absolute() / "warehouse"
        self._mirror = mirror_root(data_dir)
        self._empty = empty_file(self._mirror)
        self._kept = KeptFiles(self._mirror)
        self._moved = MovedRows(self._kept.root / "moved")
        self._named: tuple[Mapping[Partition, Contents], Mapping[Partition, Path], Mapping[Partition, Path]] | None = (
            None
        )
        """What is published: the files of each partition, those of polls, and those of what is usual."""
        self._open: tuple[WorkingDatabase, Tables, Publisher] | None = None
        self._refreshes = 0
        self._unpublished: set[str] = set()
        self._sealed: tuple[Mapping[Partition, Contents], Mapping[str, tuple[str, ...]]] = {}, {}
        self._former_sealed: dict[str, bool] = {}
        self._former_open: dict[str, bool] = {}
        self._future_snapshots = 0
        self._interrupted = threading.Event()
        self._busy = threading.Lock()
        self.daily_seconds: float | None = None
        """For so long a refresh writes what is usual, and for so long it learns and scores forecasts, as is due once a
        day: the rest comes with the next. None: until all is done."""
        self.steps = 0
        """Partitions brought up to date by this process, for progress."""

    def refresh(self, files: Mapping[Segment, Path], written: Written = MappingProxyType({})) -> Refresh:
        """Take over what changed among the mirror's files (by segment), and publish.

        `written` are segments that were written since the last refresh, oldest first: the rows that they tell need not
        be read. Raises Transient where another attempt may do, else Permanent.
        """
        with self._busy, disk_errors():
            try:
                return self._refresh(files, written)
            except (BikeflowError, OSError):
                self._close()  # what is known in memory may be ahead of what the file has
                raise
            except duckdb.Error as error:
                self._close()
                if _is_passing(error):
                    raise _translated(error) from error
                working = self._directory / "working.duckdb"
                if working.exists():
                    log.warning("database_damaged", set_aside=str(quarantined(working)), error=first_line(error))
            try:
                return self._refresh(files, written)
            except duckdb.Error as error:
                self._close()
                raise _translated(error) from error

    def freeze(self, copy: Path) -> Frozen | None:
        """Copy the published database to `copy`; None where this process has not published yet.

        The files that it names stay for a while, whatever is published meanwhile.
        """
        with self._busy, disk_errors():
            if self._named is None:
                return None
            shutil.copyfile(self.path, copy)
            contents, polls, usual = self._named
            files = {segment: self._mirror / file for some in contents.values() for segment, file in some.items()}
            kept = {
                name: {
                    partition: self._kept.path(name, next(iter(some.values())))
                    for partition, some in contents.items()
                    if is_sealed(some)
                }
                for name in KEPT
            }
            moved = {MOVED[name]: paths for name, paths in self._moved.files.items()}
            return Frozen(copy, files, {**kept, POLLS: polls, USUAL: usual}, moved, self._no_moved_rows, self._empties)

    def forget(self, segment: Segment) -> None:
        """Let the next refresh read a segment's partition again, though its file has the same name: it was damaged."""
        with self._busy, disk_errors():
            if self._open is not None:
                try:
                    self._open[0].forget(segment.partition)
                except duckdb.Error as error:
                    raise _translated(error) from error

    def interrupt(self) -> None:
        """End the refresh under way, and any later one, with Transient: the process is about to end."""
        self._interrupted.set()
        opened = self._open
        if opened is not None:
            with contextlib.suppress(duckdb.Error):  # it is just being closed
                opened[0].connection.interrupt()

    def close(self) -> None:
        """Close the databases; waits for a refresh under way."""
        with self._busy:
            self._close()

    def _refresh(self, files: Mapping[Segment, Path], written: Written) -> Refresh:
        if not self._empty.is_file():
            raise Transient(f"the mirror has vanished: {self._empty} is missing")
        if self._refreshes >= REOPENED_AFTER:
            self._close()
        self._refreshes += 1
        working, tables, publisher = self._open = self._open or self._opened()
        wanted = self._wanted(files)
        due = working.set_latest_time((self._now() + FUTURE_TOLERANCE).replace(tzinfo=None))
        removed = working.contents.keys() - wanted.keys()
        changed = [
            partition for partition in sorted(wanted) if partition in due or self._differs(working, partition, wanted)
        ]
        self._unpublished |= {partition.system_id for partition in (*removed, *changed)}
        for partition in removed:
            working.forget(partition)
        added = self._add(working, wanted, {key: written[key] for key in changed if key in written and key not in due})
        damaged: list[Segment] = []
        for partition in changed:
            if partition in added:
                continue
            if self._interrupted.is_set():
                raise Transient("the refresh was interrupted")
            damaged += self._read(working, partition, wanted[partition])
            self.steps += 1
        working.settle({partition: is_sealed(contents) for partition, contents in working.contents.items()})
        self._unpublished |= working.move()
        with working.taking_over() as changes:
            updated = tables.update(_sealed(working.contents), changes, self._unpublished, self.daily_seconds)
        self._unpublished |= updated.systems
        publication = publisher.publish(self._lists(working.contents, tables), self._unpublished, daily=updated.daily)
        self._unpublished.clear()
        named = {partition: dict(contents) for partition, contents in working.contents.items()}
        self._named = named, dict(tables.polls.copies), dict(tables.usual.files)
        self._tell_future(publication)
        self._moved.prune()
        self._kept.prune(file for contents in named.values() if is_sealed(contents) for file in contents.values())
        return Refresh(len(changed) - len(added), len(added), len(removed), tuple(damaged), publication)

    def _wanted(self, files: Mapping[Segment, Path]) -> dict[Partition, Contents]:
        wanted: dict[Partition, dict[Segment, str]] = {}
        for segment, path in files.items():
            wanted.setdefault(segment.partition, {})[segment] = str(path.relative_to(self._mirror))
        return dict(wanted)

    def _differs(self, working: WorkingDatabase, partition: Partition, wanted: Mapping[Partition, Contents]) -> bool:
        contents = wanted[partition]
        if working.contents.get(partition) != contents:
            return True
        return is_sealed(contents) and not all(map(self._kept.has, contents.values()))

    def _add(self, working: WorkingDatabase, wanted: Mapping[Partition, Contents], written: Written) -> set[Partition]:
        """Add the rows that written segments tell, where these are enough; gives the partitions it did."""
        additions = {}
        for partition, segments in written.items():
            known = working.contents.get(partition)
            if known is None and self._begins_a_day(partition, wanted, working.contents):
                known = {}
            addition = _addition(known, wanted[partition], segments)
            if addition is not None:
                additions[partition] = addition
        if not additions:
            return set()
        working.set_threads(1)
        added = additions.keys() - working.add(additions)
        self.steps += len(added)
        return added

    def _begins_a_day(
        self, partition: Partition, wanted: Mapping[Partition, Contents], known: Iterable[Partition]
    ) -> bool:
        """Whether a partition of which nothing is known is the newest of its system, and small."""
        if any(item.system_id == partition.system_id and item.day > partition.day for item in known):
            return False
        return _bytes(self._mirror / file for file in wanted[partition].values()) <= LARGE_BYTES

    def _read(self, working: WorkingDatabase, partition: Partition, wanted: Contents) -> list[Segment]:
        """Read a partition whole; gives the segments that can't be read, which are left out."""
        size = _bytes(self._mirror / file for file in wanted.values())
        working.set_threads(self._settings.threads if size > LARGE_BYTES else 1)
        damaged: list[Segment] = []
        while True:
            try:
                working.read(partition, {segment: file for segment, file in wanted.items() if segment not in damaged})
            except DamagedFiles as error:
                for segment, reason in error.reasons.items():
                    log.warning("segment_damaged", file=wanted[segment], error=reason)
                damaged += error.reasons
                if len(damaged) == len(wanted):
                    working.forget(partition)
                    return damaged
            else:
                return damaged

    def _tell_future(self, publication: Publication) -> None:
        found = publication.future_snapshots
        if found and found != self._future_snapshots:
            advice = "they count once their time has come; check the clock of the machine that wrote them"
            log.warning("snapshots_dated_in_future", snapshots=found, advice=advice)
        self._future_snapshots = found

    @property
    def _empties(self) -> dict[str, Path]:
        polls, usual = empty_polls(copies_root(self._data_dir)), empty_usual(self._kept.root)
        return {MIRRORED: self._empty, **self._kept.empty, POLLS: polls, USUAL: usual}

    @property
    def _no_moved_rows(self) -> dict[str, str]:
        return {MOVED[name]: query for name, query in self._moved.empty.items()}

    def _lists(self, contents: Mapping[Partition, Contents], tables: Tables) -> dict[str, FileList]:
        """The lists of files that the published views read, the newest first."""
        sealed = {partition: some for partition, some in contents.items() if is_sealed(some)}
        if sealed != self._sealed[0]:  # mostly it is what it was, and long
            newest_first = [next(iter(sealed[partition].values())) for partition in sorted(sealed, reverse=True)]
            lists = {name: tuple(self._kept.pattern(name, file) for file in newest_first) for name in KEPT}
            lists[MIRRORED] = tuple(pattern(self._mirror / file) for file in newest_first)
            self._sealed = sealed, lists
            self._former_sealed = self._looked_at(newest_first, self._former_sealed)
        segments = [segment for partition in contents.keys() - sealed.keys() for segment in contents[partition]]
        open_files = [contents[segment.partition][segment] for segment in sorted(segments, reverse=True)]
        self._former_open = self._looked_at(open_files, self._former_open)
        found = {**self._former_sealed, **self._former_open}
        former = frozenset(pattern(self._mirror / file) for file, is_former in found.items() if is_former)
        opened = tuple(pattern(self._mirror / file) for file in open_files)
        kept = {name: FileList((), self._sealed[1].get(name, ())) for name in KEPT}
        moved = {MOVED[name]: FileList(tuple(map(pattern, paths))) for name, paths in self._moved.files.items()}
        polls = FileList((), tables.polls.files)
        usual = FileList((), tuple(map(pattern, tables.usual.files.values())))
        return {
            MIRRORED: FileList(opened, self._sealed[1].get(MIRRORED, ()), former),
            **kept,
            **moved,
            POLLS: polls,
            USUAL: usual,
        }

    def _looked_at(self, files: Iterable[str], known: Mapping[str, bool]) -> dict[str, bool]:
        """Whether each of these files lacks columns; a file never changes under its name."""
        return {file: known[file] if file in known else lacks_columns(self._mirror / file) for file in files}

    def _opened(self) -> tuple[WorkingDatabase, Tables, Publisher]:
        working = WorkingDatabase(
            self._directory / "working.duckdb", self._settings, self._mirror, self._empty, self._kept, self._moved
        )
        try:
            forecast = self._systems if self._settings.forecast else {}
            tables = Tables(
                working.connection, self._kept, self._moved, self._facts, self._polls, self._systems, forecast
            )
            empty = {**{name: pattern(file) for name, file in self._empties.items()}, **self._no_moved_rows}
            template = self._directory / "template.duckdb"
            return working, tables, Publisher(working.connection, template, self.path, empty, self._systems, self.shown)
        except BaseException:
            working.close()
            raise

    def _close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None
        self._refreshes = 0


def _addition(known: Contents | None, wanted: Contents, written: Sequence[SegmentWritten]) -> Addition | None:
    """What the written segments add to a partition, if they lead from what is known of it to what is wanted."""
    if known is None or is_sealed(known) or is_sealed(wanted):
        return None
    contents, rows, records = dict(known), [], list[FileRecord]()
    for item in written:
        if item.object is None or contents == wanted:
            continue
        before = None if item.former_etag is None else version_of(item.object, item.former_etag)
        if item.added is None or contents.get(item.segment) != before:
            return None
        contents[item.segment] = version_of(item.object, item.object.etag)
        rows.append(item.added)
        records += item.records
    return Addition(wanted, rows, records) if rows and contents == wanted else None


def _sealed(contents: Mapping[Partition, Contents]) -> dict[Partition, str]:
    """The file of each sealed partition."""
    return {partition: next(iter(files.values())) for partition, files in contents.items() if is_sealed(files)}


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.exists())


def _is_passing(error: duckdb.Error) -> bool:
    """True where nothing is damaged: the machine is short of something, or we are asked to stop."""
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException):
        return True
    return any(reason in str(error) for reason in _PASSING)


def _translated(error: duckdb.Error) -> BikeflowError:
    message = f"refreshing the database failed: {first_line(error)}"
    if isinstance(error, duckdb.OutOfMemoryException):
        return Transient(f"{message}; raise warehouse.memory_limit")
    return Transient(message) if _is_passing(error) else Permanent(message)
