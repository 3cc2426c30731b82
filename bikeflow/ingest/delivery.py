"""The way of a snapshot from the fetcher to the lake: into the spool, and from there to the store."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from functools import partial

from bikeflow.core.errors import NotFound, Permanent, Transient
from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, Fault, ObjectInfo, SnapshotStored
from bikeflow.ingest.keys import next_free_second
from bikeflow.ingest.spool import NotSpooled, Spool, SpoolEntry, SpoolFull
from bikeflow.runtime.log import bound, get_logger
from bikeflow.runtime.retry import retrying, tick_or
from bikeflow.settings.sections import RetrySettings
from bikeflow.store import ObjectCache, Store

_SECOND = dt.timedelta(seconds=1)
FINISH_SECONDS = 5.0
"""How long a stop waits for a backlog to be delivered, at most."""
TOLD_FROM_ATTEMPT = 2
"""One failed request is no news, and is tried again; the next one is."""
_log = get_logger()


class Delivery:
    """Keeps accepted snapshots in the spool until the store has confirmed them, oldest first.

    `on_stored` is called for each one that the store has confirmed; `cache` spares the processor the download of what
    was just uploaded.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        spool: Spool,
        retry: RetrySettings,
        on_stored: Callable[[SnapshotStored], None] = lambda event: None,
        cache: ObjectCache | None = None,
        shift_seconds: float = 300,
    ) -> None:
        self.store = store
        self.layout = layout
        self.spool = spool
        self._retry = retry
        self._on_stored = on_stored
        self._cache = cache
        self._work = asyncio.Event()
        self._answering = asyncio.Event()
        self._finishing = False
        self._leaving_rest = False
        self.fault: Fault | None = None
        """Since when and why the store has not taken what waits, or None while it does."""
        self._shift_seconds = shift_seconds
        self.shifted: Fault | None = None
        """Since when and by how much snapshots are filed under a wrong time, as theirs is taken; or None."""
        self._block: tuple[dt.datetime, dt.datetime] | None = None
        """From and until when all seconds are known to be taken."""
        self._give_up_at: float | None = None
        self.attempts = 0
        """Snapshots that were tried to deliver, with success or not."""

    def take_over(self, predecessor: Delivery) -> None:
        """Know since when and why the same store has not taken what waits."""
        self.fault, self.shifted = predecessor.fault, predecessor.shifted

    async def accept(self, at: dt.datetime, trace_id: str, data: bytes) -> str:
        """Keep a snapshot taken at `at` (whole seconds); gives its key. Raises `NotSpooled`.

        The key is that of the next free second where another snapshot of that second still waits. What the disk does
        not take goes to the store at once; if that fails as well, it waits in memory.
        """
        at = self.spool.free_second(at)
        try:
            await self.spool.add(at, trace_id, data)
        except NotSpooled as error:
            try:
                stored = await self._put_at_once(at, data)
            except (Transient, Permanent):
                if isinstance(error, SpoolFull):
                    raise error from None
                self.spool.hold(at, trace_id, data, error)
                self._work.set()
                return self.layout.raw_key(at)
            await self.spool.discard(SpoolEntry.of(at, trace_id, data))
            _log.warning("spool_bypassed", key=stored.key, error=str(error))
            self._on_stored(SnapshotStored(self.layout.system_id, stored, trace_id))
            return stored.key
        self._work.set()
        return self.layout.raw_key(at)

    async def _put_at_once(self, at: dt.datetime, data: bytes) -> ObjectInfo:
        """Store a snapshot that nothing else holds, with one attempt."""
        fetched_at = at
        while (stored := await self._put(at, data)) is None:
            at = await self._free_second(at, None)
        self._note_shift(fetched_at, at)
        return stored

    async def _free_second(self, taken: dt.datetime, stop: asyncio.Event | None) -> dt.datetime:
        """The next second after one that is taken under which neither the store nor the spool has a snapshot."""
        first, last = self._block or (taken, taken)
        if not first <= taken <= last or first == last:
            at = await next_free_second(self.store, self.layout, taken, self.spool.free_second, stop)
            first = taken
        else:  # where a clock was set back, one snapshot after the other falls in the same block
            at = self.spool.free_second(last + _SECOND)
        self._block = first, at
        return at

    def finish(self, *, leave_rest: bool = False) -> None:
        """Let `run` end once it has looked at the spool for a last time: nothing more will be accepted.

        `leave_rest` lets it end with the snapshot that is under way: a successor delivers the others. So does a
        backlog that takes long: the next start delivers it.
        """
        self._finishing, self._leaving_rest = True, leave_rest
        self._give_up_at = time.monotonic() + FINISH_SECONDS
        self._work.set()

    def store_answers(self) -> None:
        """The store has answered somebody: what it did not take before is worth another attempt now."""
        self._answering.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver whatever comes until `finish` is called; a set `stop` ends the waiting for a store that is down."""
        await self._run(stop)
        if self.spool.fault is not None and not self._leaving_rest:
            _log.error("snapshots_lost", count=self.spool.in_memory, error=self.spool.fault.reason)

    async def _run(self, stop: asyncio.Event) -> None:
        self._finishing, self._give_up_at = False, None
        while True:
            self._work.clear()
            finishing = self._finishing
            delivered = await self.drain(stop)
            if finishing:
                return
            self._answering.clear()
            if delivered:
                await self._work.wait()
            elif await tick_or(self._answering, stop, self._retry.max_seconds):
                return

    async def drain(self, stop: asyncio.Event | None = None) -> bool:
        """Deliver all that waits, oldest first; False where the store didn't take it (then it goes on waiting)."""
        await self.spool.settle()
        for entry in self.spool.entries:
            if self._leaving_rest or (self._give_up_at is not None and time.monotonic() > self._give_up_at):
                return False
            with bound(trace_id=entry.trace_id):
                try:
                    await self._deliver(entry, stop)
                except (Transient, Permanent) as error:
                    self._note_failure(error)
                    return False
                finally:
                    self.attempts += 1
                self._note_success()
        self._note_success()
        return True

    async def _deliver(self, entry: SpoolEntry, stop: asyncio.Event | None) -> None:
        data = await self.spool.read(entry)
        if data is None:
            return
        policy, fetched_at = retrying(self._retry, stop, on_retry=self._on_retry), entry.time
        info: ObjectInfo | None = await policy(partial(self._put, entry.time, data))
        while info is None:
            at: dt.datetime = await policy(partial(self._free_second, entry.time, stop))
            _log.info("key_taken", key=self.layout.raw_key(entry.time), new_key=self.layout.raw_key(at))
            entry = await self.spool.move(entry, at)
            info = await policy(partial(self._put, entry.time, data))
        self._note_shift(fetched_at, entry.time)
        if self._cache is not None:
            await self._cache.remember(info, data)
        _log.debug("stored", key=info.key, bytes=info.size)
        # Told before the entry goes: until then, whoever finds the object in the store can ask for its trace id.
        self._on_stored(SnapshotStored(self.layout.system_id, info, entry.trace_id))
        await self.spool.remove(entry)

    def _note_shift(self, fetched_at: dt.datetime, filed_at: dt.datetime) -> None:
        """Where a snapshot is filed far from its time, a clock was set back, or somebody else fills the keys."""
        seconds = (filed_at - fetched_at).total_seconds()
        if not self._shift_seconds or seconds <= self._shift_seconds:
            self.shifted = None
            return
        minutes, key = round(seconds / 60), self.layout.raw_key(filed_at)
        if self.shifted is None:
            hint = "was the clock set back, or does another service fetch into this archive?"
            _log.error("snapshot_misfiled", key=key, fetched_at=fetched_at.isoformat(), minutes=minutes, hint=hint)
        since = self.shifted.since if self.shifted else dt.datetime.now(UTC)
        self.shifted = Fault(since, f"snapshots are filed {minutes:,} min after their time, the last as {key}")

    def trace_id(self, key: str) -> str | None:
        """The trace id of a snapshot that is being delivered under this key, or None."""
        if self.spool.depth == 0:  # asked of every key of a listing
            return None
        time = self.layout.snapshot_time(key)
        return None if time is None else self.spool.trace_id(time)

    async def _put(self, at: dt.datetime, data: bytes) -> ObjectInfo | None:
        """Store a snapshot without overwriting one; None where another snapshot has its key.

        The first look is for servers that know no conditional PUT: there, two fetchers that store within the same
        second can overwrite one another between the look and the PUT.
        """
        key = self.layout.raw_key(at)
        try:
            found = await self.store.head(key)
        except NotFound:
            stored = await self.store.put_new(key, data)
            if stored is not None:
                return stored
            found = await self.store.head(key)
        # A PUT whose confirmation never came may have worked all the same. The content alone decides, whatever the
        # answer's headers say: one that is wrongly taken for another's would be stored again under the next second.
        return found if (await self.store.get(key)).data == data else None

    def _on_retry(self, error: BaseException, attempt: int, wait_seconds: float) -> None:
        _log.debug("retrying", error=str(error), attempt=attempt, wait_seconds=round(wait_seconds, 3))
        if attempt >= TOLD_FROM_ATTEMPT:
            self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        if self.fault is None:
            waiting = self.spool.depth
            _log.warning("store_unreachable", store=self.store.describe(), error=str(error), waiting_in_spool=waiting)
        self.fault = Fault(self.fault.since if self.fault else dt.datetime.now(UTC), str(error))

    def _note_success(self) -> None:
        if self.fault is not None:
            _log.info(
                "store_recovered",
                store=self.store.describe(),
                down_seconds=round((dt.datetime.now(UTC) - self.fault.since).total_seconds(), 1),
                waiting_in_spool=self.spool.depth,
            )
            self.fault = None
