"""The watcher role: finds raw files in the store and puts their partitions on the queue.

Fast path: one LIST a poll, from a little before the newest known key, however large the archive is. Our own snapshots
need no poll: the fetcher announces them. Slow path: a full reconciliation at start and every `reconcile_seconds`. How
often either comes depends on how many lanes there are: see `listings`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

from bikeflow.core.errors import BikeflowError
from bikeflow.core.layout import Layout
from bikeflow.core.model import (
    UTC,
    Fault,
    ObjectInfo,
    Partition,
    PartitionJob,
    RawFile,
    SnapshotStored,
)
from bikeflow.lake.listings import Listings
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.reconciler import Reconciler
from bikeflow.ledger import SystemIndex
from bikeflow.ledger.runs import RunLog
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import tick, tick_or
from bikeflow.store.base import Store

LONGEST_DELAY_SECONDS = 5.0
"""How long the first full listing waits, at most, where the ledger of an earlier run knows the archive."""

LOOKBACK_KEYS = 900
"""How many known keys a poll lists again: late, overwritten and out-of-order files among them are found at once.

One LIST gives 1,000 keys (999 on some servers), so these come with the new ones at no further request.
"""

log = get_logger()


class Watcher:
    """Turns what lies in the store of one system into partition jobs."""

    def __init__(
        self,
        listings: Listings,
        store: Store,
        layout: Layout,
        index: SystemIndex,
        runs: RunLog,
        queue: PartitionQueue,
        reconciler: Reconciler,
    ) -> None:
        self._listings = listings
        self._store = store
        self._layout = layout
        self._index = index
        self._runs = runs
        self._queue = queue
        self._reconciler = reconciler
        self._announced: asyncio.Queue[SnapshotStored | None] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._suspicion = asyncio.Event()
        self._seen: dict[str, str] = {}
        self._forgettings = 0
        self._forgiving = False
        self._look_now = asyncio.Event()
        self.fault: Fault | None = None
        self.last_poll_at: dt.datetime | None = None
        self.attempts = 0
        """Looks at the store that have ended, well or not."""

    def take_over(self, predecessor: Watcher) -> None:
        """Know how another watcher of the same store was doing, and what was announced to it."""
        self.fault, self.last_poll_at = predecessor.fault, predecessor.last_poll_at
        while not predecessor._announced.empty():
            self._announced.put_nowait(predecessor._announced.get_nowait())

    def announce(self, event: SnapshotStored) -> None:
        """A snapshot of our own is in the store; called by the fetcher's event sink."""
        self._announced.put_nowait(event)

    def store_works_again(self) -> None:
        """A kind of request to the store that had failed works again: the partitions that failed need not wait."""
        self._forgiving = True
        if self.fault is not None:
            self._look_now.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until stopped. Storage errors are waited out, all others end the role."""
        async with asyncio.TaskGroup() as group:
            reconciling = group.create_task(self._reconcile_forever(stop))
            polling = group.create_task(self._poll_forever(stop))
            taking = group.create_task(self._take_announcements())
            await stop.wait()
            polling.cancel()
            reconciling.cancel()  # the next start repeats it
            if self._ready.is_set():
                self._announced.put_nowait(None)  # what was announced before is still taken
            else:
                taking.cancel()

    async def poll(self) -> list[RawFile]:
        """The fast path, once: returns the raw files that are new or changed, whose partitions now wait."""
        # Never from the beginning, which would be a look at all that lies there: a listing that goes on after a key may
        # rely on what the last one saw.
        after = await asyncio.to_thread(self._index.files.key_before_newest, LOOKBACK_KEYS) or self._layout.raw
        if self._forgettings != self._index.files.forgettings:
            # One that could not be found when it was read may be there all the same, if it is still listed.
            self._seen = {}
        self._forgettings = self._index.files.forgettings
        listed: dict[str, str] = {}
        unseen: list[ObjectInfo] = []
        async for page in self._listings.pages(self._store, self._layout.raw, after):
            # What the last poll has seen already need not be looked up in the ledger again.
            unseen.extend(info for info in page if self._seen.get(info.key) != info.etag)
            listed.update((info.key, info.etag) for info in page)
        found = await self._reconciler.observe(unseen)
        self._seen = listed
        if found:
            log.info(
                "raw_files_found",
                system=self._layout.system_id,
                count=len(found),
                first=found[0].key,
                last=found[-1].key,
            )
        # First, as a day that is over and not begun yet is then written as one segment at once.
        sealed = await self._reconciler.seal_finished_days()
        await self._enqueue([*(file.partition for file in found), *sealed])
        await self._enqueue_due()
        await self._reconciler.look_for_missing()
        if self._index.missing.suspected:
            self._suspicion.set()
        return found

    async def _poll_forever(self, stop: asyncio.Event) -> None:
        await self._ready.wait()
        while not stop.is_set():
            started = time.monotonic()
            await self._attempt(self.poll)
            seconds = self._listings.poll_seconds - (time.monotonic() - started)
            await tick_or(self._look_now, stop, max(seconds, 0))
            self._look_now.clear()

    async def _reconcile_forever(self, stop: asyncio.Event) -> None:
        if await asyncio.to_thread(self._index.files.reconciled_at) is not None:
            # The ledger knows what our segments hold: nothing needs to wait for the listing. It would take seconds from
            # the first snapshot and the first refresh, and can wait itself.
            self._ready.set()
            await tick(stop, min(self._listings.poll_seconds, LONGEST_DELAY_SECONDS))
        while not stop.is_set():
            self._suspicion.clear()
            agreed = await self._attempt(self._reconcile)
            wait_seconds = self._listings.reconcile_seconds if agreed else self._listings.poll_seconds
            if agreed or self._ready.is_set():
                await tick_or(self._suspicion, stop, wait_seconds)
            else:
                await tick_or(self._look_now, stop, wait_seconds)
                self._look_now.clear()

    async def _reconcile(self) -> None:
        self._forgiving |= self._index.missing.suspected  # what failed for want of raw files need not wait
        self._index.missing.suspected = False
        if self._ready.is_set():
            async with self._listings.reconciling:
                await self._reconciler.reconcile(partial(self._listings.pages, self._store))
        else:
            async with self._listings.reconciling_first:
                await self._reconciler.reconcile()
        await self._reconciler.seal_finished_days()  # as in a poll, before any of them is begun
        self._ready.set()
        await self._enqueue_due()

    async def _take_announcements(self) -> None:
        # Before the ledger has seen the whole lake, a run would write a segment without its older files.
        await self._ready.wait()
        while (event := await self._announced.get()) is not None:
            if raw := self._layout.raw_file(event.info):
                with suppress(BikeflowError):  # the disk fails, which the next poll tells, and finds the file as well
                    await asyncio.to_thread(self._index.files.observe, [(raw, event.trace_id)])
                    await self._enqueue([raw.partition])

    async def _enqueue_due(self) -> None:
        if self._forgiving:
            await asyncio.to_thread(self._runs.retry_now, self._layout.system_id)
            self._forgiving = False
        await self._enqueue(await asyncio.to_thread(self._index.files.dirty_partitions, dt.datetime.now(UTC)))

    async def _enqueue(self, partitions: Iterable[Partition]) -> None:
        for partition in sorted(set(partitions)):
            await self._queue.put(PartitionJob(partition))

    async def _attempt(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Try `work` once; a storage error is logged once, however often it repeats. Returns whether it worked."""
        try:
            await work()
        except BikeflowError as error:
            known, poll_seconds = self.fault, self._listings.poll_seconds
            self.fault = Fault(known.since if known else dt.datetime.now(UTC), str(error))
            if self.fault != known:
                log.error(
                    "storage_failed", system=self._layout.system_id, error=str(error), next_try_seconds=poll_seconds
                )
            self._forgiving = True  # what failed for want of storage need not wait once it is back
            return False
        finally:
            self.attempts += 1
        if self.fault is not None:
            log.info("storage_recovered", system=self._layout.system_id)
        self.fault, self.last_poll_at = None, dt.datetime.now(UTC)
        return True
