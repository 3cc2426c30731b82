"""Everything a bikeflow process is made of, opened once and wired together.

The roles share a queue, a store, the ledger and each other's events, nothing else; here alone they meet.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bikeflow.fetcher import Delivery, Fetcher, open_fetcher
from bikeflow.layout import Layout
from bikeflow.ledger import Ledger
from bikeflow.model import PartitionJob, PartitionProcessed, SnapshotStored
from bikeflow.partition_queue import PartitionQueue
from bikeflow.processor import Processor
from bikeflow.reconciler import Reconciler
from bikeflow.refresher import Refresher
from bikeflow.segment_writer import SegmentWriter
from bikeflow.settings import Settings
from bikeflow.spool import Spool
from bikeflow.store import ObjectCache, Store, open_store
from bikeflow.warehouse import Mirror, Warehouse
from bikeflow.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of a running bikeflow."""

    layout: Layout
    store: Store
    ledger: Ledger
    reconciler: Reconciler
    queue: PartitionQueue
    fetcher: Fetcher
    delivery: Delivery
    watcher: Watcher
    writer: SegmentWriter
    processors: tuple[Processor, ...]
    refresher: Refresher
    database_path: Path

    async def process(self, wanted: Callable[[dt.date], bool]) -> None:
        """Write all dirty segments of the partitions that are `wanted`, then seal the days that are over.

        The queue is closed afterwards.
        """
        async with asyncio.TaskGroup() as group:
            for processor in self.processors:
                group.create_task(processor.run())
            for _ in ("as they are cut", "sealed"):
                await self.reconciler.seal_finished_days()
                for partition in await asyncio.to_thread(self.ledger.files.dirty_partitions):
                    if wanted(partition):
                        await self.queue.put(PartitionJob(partition))
                await self.queue.join()
            await self.queue.close()


class _Events:
    """Carries events from one role to the next; roles are wired before they all exist."""

    watcher: Watcher
    refresher: Refresher

    def stored(self, event: SnapshotStored) -> None:
        self.watcher.announce(event)

    def processed(self, event: PartitionProcessed) -> None:
        self.refresher.wake(event)


@asynccontextmanager
async def open_pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """Open the clients and files, build the roles; closes them in reverse order. The caller holds `data_dir`'s lock."""
    data_dir, events = settings.data_dir.absolute(), _Events()
    layout = Layout(settings.storage.prefix)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.storage, data_dir))
        ledger = stack.enter_context(Ledger(data_dir, layout, settings.processing.segment_minutes))
        ledger.runs.forgive()
        cache = ObjectCache(store, data_dir / "cache", settings.storage.cache_max_bytes)
        queue = PartitionQueue(settings.processing.queue_size)
        reconciler = Reconciler(store, layout, ledger, settings.processing.seal_after_minutes)
        spool = await Spool.open(data_dir / "spool", settings.feed.spool_max_bytes)
        delivery = Delivery(store, layout, spool, settings.retry, events.stored, cache)
        fetcher = await stack.enter_async_context(open_fetcher(settings.feed, settings.retry, delivery, ledger.feed))
        events.watcher = Watcher(settings.watcher, store, layout, ledger, queue, reconciler)
        writer = SegmentWriter(store, cache, layout, ledger, settings.rules, settings.retry)
        processors = [Processor(queue, ledger, writer, events.processed) for _ in range(settings.processing.workers)]
        warehouse = Warehouse(settings.warehouse, data_dir)
        stack.callback(warehouse.close)
        mirror = Mirror(store, data_dir)
        events.refresher = Refresher(
            settings.warehouse, settings.retry, ledger.files.segment_objects, mirror, warehouse
        )
        yield Pipeline(
            layout=layout,
            store=store,
            ledger=ledger,
            reconciler=reconciler,
            queue=queue,
            fetcher=fetcher,
            delivery=delivery,
            watcher=events.watcher,
            writer=writer,
            processors=tuple(processors),
            refresher=events.refresher,
            database_path=warehouse.path,
        )
