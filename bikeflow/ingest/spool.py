"""A queue of snapshots on the local disk: what was fetched is safe here until the store has confirmed it.

One file a snapshot; its name tells all that is known of it, `<time>.<trace id>.<SHA-256>.txt`, and sorts by time. Files
appear complete (temp file, fsync, rename); what else lies in the directory is moved to `damaged/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Self

from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.model import UTC, Fault
from bikeflow.runtime import files
from bikeflow.runtime.log import get_logger

_TIME = "%Y-%m-%d_%H-%M-%S"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)\.([0-9a-z]+)\.([0-9a-f]{64})\.txt")
_log = get_logger()


class NotSpooled(Permanent):
    """The snapshot could not be kept on the local disk; the text says why."""


class SpoolFull(NotSpooled):
    """There is no room for it, by the settings."""


@dataclass(frozen=True, slots=True, order=True)
class SpoolEntry:
    """One waiting snapshot: `time` is that of its raw file (UTC, whole seconds), `size` in bytes."""

    time: dt.datetime
    trace_id: str
    sha256: str
    size: int

    @classmethod
    def of(cls, time: dt.datetime, trace_id: str, data: bytes) -> Self:
        """The entry of this snapshot."""
        return cls(time, trace_id, hashlib.sha256(data).hexdigest(), len(data))

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.time:{_TIME}}.{self.trace_id}.{self.sha256}.txt"


class Spool:
    """The waiting snapshots of one directory, which belongs to this object alone while it is in use.

    What a sick disk does not take can wait in memory, up to `memory_bytes`.
    """

    def __init__(
        self, directory: Path, max_bytes: int, entries: Iterable[SpoolEntry] = (), memory_bytes: int = 0
    ) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._entries = {entry.time: entry for entry in entries}
        self._in_memory: dict[dt.datetime, bytes] = {}
        self._since = dict.fromkeys(self._entries, monotonic())
        self.fault: Fault | None = None
        """Since when and why snapshots wait in memory alone, or None where none does."""

    @classmethod
    async def open(cls, directory: Path, max_bytes: int, memory_bytes: int = 0) -> Self:
        """Take over a directory with what an earlier process left in it; created where there is none.

        Raises `Permanent` where the directory can't be used.
        """
        try:
            return cls(directory, max_bytes, await asyncio.to_thread(_scan, directory), memory_bytes)
        except OSError as error:
            raise Permanent(f"cannot use the spool {directory}: {error.strerror}") from error

    @property
    def entries(self) -> list[SpoolEntry]:
        """What waits, oldest first."""
        return sorted(self._entries.values())

    @property
    def depth(self) -> int:
        """Number of waiting snapshots."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Their size altogether."""
        return sum(entry.size for entry in self._entries.values())

    @property
    def oldest_seconds(self) -> float:
        """For how long the one that has waited longest waits here, since the start at most; 0 where none does."""
        return monotonic() - min(self._since.values()) if self._since else 0.0

    def free_second(self, time: dt.datetime) -> dt.datetime:
        """This time, or the next second of which no snapshot waits."""
        while time in self._entries:
            time += dt.timedelta(seconds=1)
        return time

    def trace_id(self, time: dt.datetime) -> str | None:
        """The trace id of the snapshot of that second, while it waits."""
        entry = self._entries.get(time)
        return None if entry is None else entry.trace_id

    async def add(self, time: dt.datetime, trace_id: str, data: bytes) -> SpoolEntry:
        """Keep a snapshot; it is on the disk when this returns. Raises `NotSpooled` when full or unwritable.

        A full spool refuses the new snapshot rather than dropping an old one: either way one is lost, but nothing that
        was promised to be safe.
        """
        if self._entries and self.size_bytes + len(data) > self._max_bytes:
            raise SpoolFull(f"the spool {self.directory} is full ({self.depth} snapshots wait for the store)")
        entry = SpoolEntry.of(time, trace_id, data)

        def write() -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            files.write_whole(self.directory / entry.name, data, durable=True)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise NotSpooled(f"cannot write to the spool {self.directory}: {error.strerror}") from error
        self._enter(entry)
        return entry

    def hold(self, time: dt.datetime, trace_id: str, data: bytes, why: NotSpooled) -> None:
        """Keep a snapshot in memory, as the disk does not take it; a crash loses it. Raises `SpoolFull`."""
        held = sum(map(len, self._in_memory.values()))
        if held + len(data) > self._memory_bytes:
            raise SpoolFull(
                f"{why}; {len(self._in_memory)} snapshots wait in memory (feed.spool_memory_bytes)"
            ) from why
        self._enter(SpoolEntry.of(time, trace_id, data))
        self._in_memory[time] = data
        self._note_memory(str(why))

    async def settle(self) -> None:
        """Write what waits in memory to the disk, if that takes it now."""
        for time in sorted(self._in_memory):
            data = self._in_memory[time]
            entry = self._entries[time]
            try:
                await self.add(time, entry.trace_id, data)
            except NotSpooled as error:
                self._note_memory(str(error))
                return
            self._free(time)

    @property
    def in_memory(self) -> int:
        """Number of snapshots that wait in memory alone."""
        return len(self._in_memory)

    def take_over(self, predecessor: Spool) -> None:
        """Go on with what waits in the memory of another object, which is in use no more."""
        for time, data in predecessor._in_memory.items():
            entry = replace(predecessor._entries[time], time=self.free_second(time))
            self._in_memory[entry.time] = data
            self._enter(entry)
        predecessor._in_memory, self.fault = {}, predecessor.fault

    def _note_memory(self, error: str) -> None:
        count = len(self._in_memory)
        if self.fault is None:
            _log.error(
                "spool_in_memory", error=error, hint="they are lost if this process ends before the disk is well"
            )
        snapshots = "1 snapshot waits" if count == 1 else f"{count} snapshots wait"
        since = self.fault.since if self.fault else dt.datetime.now(UTC)
        self.fault = Fault(since, f"{snapshots} in memory alone: {error}")

    def _free(self, time: dt.datetime) -> None:
        """A snapshot waits in memory no more."""
        if self._in_memory.pop(time, None) is not None and not self._in_memory:
            _log.info("spool_memory_empty")
            self.fault = None

    async def read(self, entry: SpoolEntry) -> bytes | None:
        """The snapshot, or None where its file can't be read now, is gone or damaged (then it no longer waits)."""
        if entry.time in self._in_memory:
            return self._in_memory[entry.time]
        try:
            data = await asyncio.to_thread(_read, self.directory, entry)
        except OSError as error:  # the disk fails: it waits for another attempt, and the others need not wait for it
            _log.error("spool_read_failed", file=entry.name, error=error.strerror)
            return None
        if data is None:
            self._leave(entry)
        return data

    async def move(self, entry: SpoolEntry, time: dt.datetime) -> SpoolEntry:
        """The same snapshot under another time. Raises `Transient` where the disk fails."""
        moved = replace(entry, time=time)
        if entry.time in self._in_memory:
            self._in_memory[time] = self._in_memory.pop(entry.time)
        else:
            try:
                await asyncio.to_thread(files.replace, self.directory / entry.name, self.directory / moved.name)
            except OSError as error:
                raise Transient(f"cannot rename in the spool {self.directory}: {error.strerror}") from error
        self._since[time] = self._since[entry.time]
        self._leave(entry)
        self._enter(moved)
        return moved

    async def adopt(self, other: Spool) -> None:
        """Take over what waits in another directory; what finds no room here stays there. Raises `NotSpooled`."""
        for entry in other.entries:
            data = await other.read(entry)
            if data is not None:
                await self.add(self.free_second(entry.time), entry.trace_id, data)
                await other.remove(entry)

    async def remove(self, entry: SpoolEntry) -> None:
        """Forget a snapshot that the store has confirmed."""
        if entry.time in self._in_memory:
            self._free(entry.time)
            self._leave(entry)
            await self.discard(entry)
            return
        try:
            await asyncio.to_thread((self.directory / entry.name).unlink, missing_ok=True)
        except OSError as error:  # it comes up again at the next start, which is harmless
            _log.error("spool_delete_failed", file=entry.name, error=error.strerror)
        self._leave(entry)

    async def discard(self, entry: SpoolEntry) -> None:
        """Delete what `add` may have left of a snapshot that is safe elsewhere: only the last sync may have failed."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread((self.directory / entry.name).unlink, missing_ok=True)

    def _enter(self, entry: SpoolEntry) -> None:
        self._entries[entry.time] = entry
        self._since.setdefault(entry.time, monotonic())

    def _leave(self, entry: SpoolEntry) -> None:
        del self._entries[entry.time], self._since[entry.time]


def _scan(directory: Path) -> list[SpoolEntry]:
    directory.mkdir(parents=True, exist_ok=True)
    entries: dict[dt.datetime, SpoolEntry] = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            continue
        if path.name.startswith("."):
            path.unlink()  # a crash during a write, which no caller was told to have worked
            continue
        entry = _entry(path)
        if entry is None or entry.time in entries:
            _quarantine(path)
        else:
            entries[entry.time] = entry
    return list(entries.values())


def _entry(path: Path) -> SpoolEntry | None:
    match = _NAME.fullmatch(path.name)
    size = path.stat().st_size
    if match is None or size == 0:
        return None
    try:
        time = dt.datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return SpoolEntry(time, match[2], match[3], size)


def _read(directory: Path, entry: SpoolEntry) -> bytes | None:
    path = directory / entry.name
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        _log.error("spool_read_failed", file=str(path), error=error.strerror)
        return None
    if hashlib.sha256(data).hexdigest() == entry.sha256:
        return data
    _quarantine(path)
    return None


def _quarantine(path: Path) -> None:
    target = path.parent / "damaged" / path.name
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    _log.error("spool_entry_damaged", file=str(target), bytes=target.stat().st_size)
