"""The analytics database, kept current from the mirror: only what changed is read, the result replaces the old file."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import duckdb

from bikeflow.errors import BikeflowError, ConfigError, Permanent, Transient
from bikeflow.log import get_logger
from bikeflow.model import UTC
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse.facts import NoFacts, PipelineFacts, take_over
from bikeflow.warehouse.files import disk_errors
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.mirror import empty_file, mirror_root
from bikeflow.warehouse.parts import FileList, halved
from bikeflow.warehouse.publishing import Publication, Publisher
from bikeflow.warehouse.reading import RecentRows
from bikeflow.warehouse.statements import MIRRORED, SCHEMA, kept, lists, pattern
from bikeflow.warehouse.working import DamagedSegment, Pieces, WorkingDatabase, first_line, quarantined, transaction

_PASSING = (
    "No space left", "Could not set lock", "Too many open files", "Cannot allocate memory", "Read-only file system",
    "Input/output error", "Disk quota exceeded",
)  # fmt: skip
LARGE_BYTES = 1024 * 1024
"""Where less is to be read, more than one thread costs more than it gives."""

FUTURE_TOLERANCE = dt.timedelta(minutes=5)
"""A snapshot whose file is dated so much later than now counts only once its time has come."""

REOPENED_AFTER = 256
"""So many refreshes leave some 10 MB with DuckDB that no table is in, 40 MB in the end: what it notes of buffers that
are long gone. It is free of them when it is opened anew, which takes a third of a second."""

log = get_logger()


def published_path(settings: WarehouseSettings, data_dir: Path) -> Path:
    """Where the published database lies; raises ConfigError for a name that would make it unusable."""
    if settings.mode == "s3":  # the bucket has the one for others: this one is for our own pages and commands
        return (data_dir / "warehouse" / "analytics.duckdb").absolute()
    path = (settings.path or data_dir / "analytics.duckdb").absolute()
    if path.stem.lower() == SCHEMA:
        # DuckDB calls a database by its file: wrm_analytics.t could be the schema's or the database's
        raise ConfigError(
            f"warehouse.path = {path}: a database of this name hides its schema {SCHEMA}; call it otherwise"
        )
    return path


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one refresh did: segments read anew and removed, names of those that can't be read, what it published."""

    changed: int
    removed: int
    damaged: tuple[str, ...]
    published: Publication


@dataclass(frozen=True, slots=True)
class Frozen:
    """A copy of the published database, and what it names: files by list and segment, and those without rows."""

    database: Path
    files: Mapping[str, Mapping[str, tuple[Path, ...]]]
    empty: Mapping[str, Path]


def _now() -> dt.datetime:
    return dt.datetime.now(UTC)


class Warehouse:
    """Working and published database over the mirror, all below `data_dir`.

    Its methods block, and are called from one thread at a time, except for `interrupt`. Whatever is found damaged is
    set aside and built anew from the mirror. `facts` knows what the mirror's files don't tell, `now` what time it is.
    """

    def __init__(
        self,
        settings: WarehouseSettings,
        data_dir: Path,
        facts: PipelineFacts | None = None,
        now: Callable[[], dt.datetime] = _now,
    ) -> None:
        self.path = published_path(settings, data_dir)
        for path in (self.path, data_dir.absolute()):
            # DuckDB takes the first two for a URL's query and a separator; the lists of files have a name a line
            if {"?", "\\", "\n"} & set(str(path)):
                raise ConfigError(f"DuckDB can't work with ?, \\ or a line break in a path; rename {str(path)!r}")
        self._settings = settings
        self._facts = facts or NoFacts()
        self._now = now
        self._future_snapshots = 0
        self._directory = data_dir.absolute() / "warehouse"
        self._empty = empty_file(mirror_root(data_dir))
        self._kept = KeptFiles(mirror_root(data_dir))
        self._named: tuple[Mapping[str, Path], Pieces] | None = None
        self._open: tuple[WorkingDatabase, Publisher] | None = None
        self._refreshes = 0
        self._settled: tuple[Mapping[str, tuple[Path, tuple[str, ...]]], Mapping[str, tuple[str, ...]]] = {}, {}
        self._interrupted = threading.Event()
        self._busy = threading.Lock()
        self.steps = 0
        """Segments taken over or given up by this process, for progress."""

    def refresh(self, files: Mapping[str, Path], recent: Mapping[Path, RecentRows] = MappingProxyType({})) -> Refresh:
        """Take over what changed among the mirror's files (by segment), and publish.

        `recent` are the rows of files that are still in memory: new ones need not be read from the file.
        Raises Transient where another attempt may do, else Permanent.
        """
        with self._busy, disk_errors():
            try:
                return self._refresh(files, recent)
            except duckdb.Error as error:
                self._close()
                if _is_passing(error):
                    raise _translated(error) from error
                working = self._directory / "working.duckdb"
                if working.exists():
                    log.warning("database_damaged", set_aside=str(quarantined(working)), error=first_line(error))
            try:
                return self._refresh(files, recent)
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
            files, pieces = self._named
            derived = {
                name: {item: tuple(self._kept.path(name, item, piece) for piece in pieces[item]) for item in files}
                for name in kept()
            }
            return Frozen(copy, {MIRRORED: {item: (file,) for item, file in files.items()}, **derived}, self._empties)

    def forget(self, segment: str) -> None:
        """Let the next refresh read a segment anew, though its file has the name that it had: it was damaged."""
        with self._busy, disk_errors():
            if self._open is not None:
                try:
                    self._open[0].forget([segment])
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

    def _refresh(self, files: Mapping[str, Path], recent: Mapping[Path, RecentRows]) -> Refresh:
        if not self._empty.is_file():
            raise Transient(f"the mirror has vanished: {self._empty} is missing")
        if self._refreshes >= REOPENED_AFTER:
            self._close()
        self._refreshes += 1
        working, publisher = self._open = self._open or self._opened()
        removed = working.pieces.keys() - files.keys()
        latest_time = (self._now() + FUTURE_TOLERANCE).replace(tzinfo=None)
        due = working.set_latest_time(latest_time) & files.keys()
        changed = sorted(due.union(self._changed(files, working.pieces)))
        damaged: list[str] = []
        working.set_threads(self._settings.threads if _bytes(files[name] for name in changed) > LARGE_BYTES else 1)
        working.forget(removed)
        working.leave_out(files)
        for name in changed:
            if self._interrupted.is_set():
                raise Transient("the refresh was interrupted")
            try:
                working.apply(name, files[name], recent.get(files[name]))
            except DamagedSegment as error:
                log.warning("segment_damaged", segment=name, error=str(error))
                working.forget([name])
                damaged.append(name)
            self.steps += 1
        working.read_overlapping(files)
        working.roll_up()
        with transaction(working.connection):
            take_over(working.connection, self._facts)
        named = {name: files[name] for name in files.keys() - set(damaged)}
        publication = publisher.publish(self._lists(named, working.pieces))
        self._named = named, dict(working.pieces)
        self._tell_future(publication)
        self._kept.prune(working.pieces)
        return Refresh(len(changed) - len(damaged), len(removed), tuple(damaged), publication)

    def _tell_future(self, publication: Publication) -> None:
        found = publication.future_snapshots
        if found and found != self._future_snapshots:
            told = "they count once their time has come; look at the clock of whoever wrote them"
            log.warning("snapshots_dated_in_future", snapshots=found, advice=told)
        self._future_snapshots = found

    @property
    def _empties(self) -> dict[str, Path]:
        return {MIRRORED: self._empty, **self._kept.empty}

    def _changed(self, files: Mapping[str, Path], pieces: Pieces) -> Iterator[str]:
        """The segments that are to be read: also one that lies in pieces though it is no longer the newest."""
        newest = max(files, default=None)
        for name, file in files.items():
            known = pieces.get(name, ("",))
            settles = len(known) > 1 and name != newest
            if file.name != known[-1] or settles or not all(self._kept.has(name, piece) for piece in known):
                yield name

    def _lists(self, files: Mapping[str, Path], pieces: Pieces) -> dict[str, FileList]:
        """The lists of files that the published views read."""
        # names sort by time: a query for the newest rows finds them in the first files
        recent, settled = halved(files)

        def where(name: str, segment: str) -> list[str]:
            if name == MIRRORED:
                return [pattern(files[segment])]
            return [self._kept.pattern(name, segment, piece) for piece in pieces[segment]]

        def listed(segments: Sequence[str]) -> dict[str, tuple[str, ...]]:
            return {name: tuple(file for segment in segments for file in where(name, segment)) for name in lists()}

        state = {segment: (files[segment], pieces[segment]) for segment in settled}
        if state != self._settled[0]:  # mostly it is what it was, and long
            self._settled = state, listed(settled)
        named = listed(recent)
        return {name: FileList(named[name], self._settled[1].get(name, ())) for name in lists()}

    def _opened(self) -> tuple[WorkingDatabase, Publisher]:
        path = self._directory / "working.duckdb"
        working = WorkingDatabase(path, self._settings, self._empty, self._kept)
        try:
            template = self._directory / "template.duckdb"
            empty = {name: pattern(file) for name, file in self._empties.items()}
            return working, Publisher(working.connection, template, self.path, empty)
        except BaseException:
            working.close()
            raise

    def _close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None
        self._refreshes = 0


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.exists())


def _is_passing(error: duckdb.Error) -> bool:
    """True where nothing is damaged: the machine is short of something, or somebody wants us to stop."""
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException):
        return True
    return any(reason in str(error) for reason in _PASSING)


def _translated(error: duckdb.Error) -> BikeflowError:
    message = f"refreshing the database failed: {first_line(error)}"
    if isinstance(error, duckdb.OutOfMemoryException):
        return Transient(f"{message}; raise warehouse.memory_limit")
    return Transient(message) if _is_passing(error) else Permanent(message)
