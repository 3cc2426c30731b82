"""The record of one system's polls in the lake, and copies of its closed days on this machine."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, ObjectInfo
from bikeflow.polls.log import END_OF_TIME, PollLog
from bikeflow.polls.poll import UNREADABLE, Poll, from_parquet, not_polled, to_parquet
from bikeflow.runtime.files import disk_errors, write_whole
from bikeflow.runtime.log import get_logger
from bikeflow.store.base import Store, if_found

CLOSED_AFTER = dt.timedelta(minutes=10)
"""So long after midnight a day is closed: its polls have ended."""
_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Day:
    """A day as it lies in the lake now: its rows here by their numbers, and the object."""

    rows: Mapping[int, Poll]
    data: bytes
    info: ObjectInfo


class PollArchive:
    """Brings the rows of one system in `log` to `store`; raises what the store raises, and `Transient` of the disk.

    `waiting_since` gives the time of the oldest snapshot that waits for the store: later polls wait with it, so that a
    raw file is there before the poll that names it. Copies of closed days lie below `directory`.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        log: PollLog,
        directory: Path,
        waiting_since: Callable[[], dt.datetime | None] = lambda: None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(UTC),
    ) -> None:
        self.system_id = layout.system_id
        self._store = store
        self._layout = layout
        self._log = log
        self._directory = directory / f"system_id={layout.system_id}"
        self._waiting_since = waiting_since
        self._clock = clock
        self._known: dict[dt.date, str] = {}
        self._synced = self._joined = False

    @property
    def files(self) -> Mapping[dt.date, Path]:
        """The copies of closed days."""
        return self._log.copies_of(self.system_id)

    async def sync(self) -> bool:
        """Learn what the lake holds, and copy closed days from there; gives whether any is new."""
        found, today = dict[dt.date, Path](), self._clock().astimezone(UTC).date()
        open_days = await asyncio.to_thread(self._log.open_days, self.system_id)
        for day, info in (await self._objects()).items():
            if day < today and not open_days.get(day):
                path = self._copy(day, info.etag)
                if not path.exists():
                    stored = await if_found(self._store.get(info.key))
                    if stored is None or not await self._is_readable(stored.data, info.key):
                        continue
                    path = self._copy(day, stored.info.etag)
                    await asyncio.to_thread(_place, path, stored.data)
                found[day] = path
        self._synced = True
        return self._set_files(found)

    async def upload(self) -> bool:
        """Bring what is new to the lake, and close days that are over; gives whether any copy is new."""
        complete = self._synced and await asyncio.to_thread(lambda: all(path.exists() for path in self.files.values()))
        changed = not complete and await self.sync()
        self._joined = self._joined or await self._join()
        until, now = self._waiting_since() or END_OF_TIME, self._clock()
        for day, unsent in (await asyncio.to_thread(self._log.open_days, self.system_id)).items():
            midnight = dt.datetime.combine(day, dt.time(), UTC) + dt.timedelta(days=1)
            over = now >= midnight + CLOSED_AFTER
            if unsent or over:
                stored = await self._write(day, until)
                if over and stored is not None:
                    changed |= await self._close(day, stored)
        return changed

    async def _write(self, day: dt.date, until: dt.datetime) -> _Day | None:
        """Make the object of a day hold all that is known of it; None where there is nothing yet."""
        key = self._layout.polls_key(day)
        found = await if_found(self._store.head(key))
        if found is not None and found.etag != self._known.get(day):
            await self._take_over(key)
        rows = await asyncio.to_thread(self._log.of_day, self.system_id, day, until)
        if not rows:
            return None
        data = await asyncio.to_thread(to_parquet, rows.values())
        info = await self._store.put(key, data)
        self._known[day] = info.etag
        await asyncio.to_thread(self._log.sent, rows)
        return _Day(rows, data, info)

    async def _take_over(self, key: str) -> None:
        """Add the rows in the lake that are unknown here: of a lost disk, or of somebody else."""
        stored = await if_found(self._store.get(key))
        if stored is None:
            return
        try:
            await asyncio.to_thread(lambda: self._log.adopt(from_parquet(self.system_id, stored.data)))
        except UNREADABLE as error:
            _log.error("polls_damaged", key=key, set_aside=f"{key}.damaged", error=str(error).partition("\n")[0])
            await self._store.put(f"{key}.damaged", stored.data)

    async def _close(self, day: dt.date, stored: _Day) -> bool:
        """Keep a copy of a day that is over, and forget its rows, unless some still wait."""
        everything = await asyncio.to_thread(self._log.of_day, self.system_id, day)
        if everything.keys() != stored.rows.keys():
            return False
        path = self._copy(day, stored.info.etag)
        await asyncio.to_thread(_place, path, stored.data)
        await asyncio.to_thread(self._log.close_day, self.system_id, list(everything))
        return self._set_files({**self.files, day: path})

    async def _join(self) -> bool:
        """Where the record here has a beginning, let it go on after the one in the lake: what is between is lost.

        Gives False where nothing is recorded here yet.
        """
        if await asyncio.to_thread(self._log.newest, self.system_id) is None:
            return False
        first = await asyncio.to_thread(self._log.first, self.system_id)
        last = await self._last_before(first) if first is not None else None
        if first is not None and last is not None:
            rows = list(not_polled(last, first.due_at, first.interval_seconds, "unrecorded", "record_lost"))
            before = rows[-1] if rows else last
            linked = replace(first, previous_due_at=before.last_due_at)
            await asyncio.to_thread(self._log.add, [*rows, linked])
            _log.warning("poll_record_lost", system=self.system_id, since=last.last_due_at, until=first.due_at)
        return True

    async def _last_before(self, first: Poll) -> Poll | None:
        """The newest row in the lake that was due before `first`."""
        for day, info in sorted((await self._objects()).items(), reverse=True):
            stored = await if_found(self._store.get(info.key)) if day <= first.day else None
            if stored is not None and await self._is_readable(stored.data, info.key):
                rows = await asyncio.to_thread(from_parquet, self.system_id, stored.data)
                earlier = [row for row in rows if row.last_due_at < first.due_at]
                if any(row.due_at == first.due_at and row.previous_due_at is None for row in rows) and not earlier:
                    return None  # it is where the record in the lake begins, too
                if earlier:
                    return max(earlier, key=lambda row: row.last_due_at)
        return None

    async def _objects(self) -> dict[dt.date, ObjectInfo]:
        """The objects in the lake, by day."""
        found: dict[dt.date, ObjectInfo] = {}
        async for page in self._store.pages(self._layout.polls):
            for info in page:
                day = self._layout.polls_day(info.key)
                if day is not None:
                    found[day] = info
        return found

    async def _is_readable(self, data: bytes, key: str) -> bool:
        try:
            await asyncio.to_thread(from_parquet, self.system_id, data)
        except UNREADABLE as error:
            _log.error("polls_damaged", key=key, error=str(error).partition("\n")[0])
            return False
        return True

    def _set_files(self, files: Mapping[dt.date, Path]) -> bool:
        """Let these be the copies; gives whether any is new."""
        if files == self.files:
            return False
        self._log.set_copies(self.system_id, files)
        return True

    def _copy(self, day: dt.date, etag: str) -> Path:
        version = hashlib.sha256(etag.encode()).hexdigest()[:12]
        return self._directory / f"dt={day.isoformat()}" / f"polls.{version}.parquet"


def _place(path: Path, data: bytes) -> None:
    with disk_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, durable=True)


def copies_root(data_dir: Path) -> Path:
    """Where the copies of closed days lie: `system_id=<id>/dt=<day>/polls.<version>.parquet`."""
    return data_dir.absolute() / "mirror" / "polls"
