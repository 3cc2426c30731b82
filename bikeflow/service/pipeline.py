"""Everything a bikeflow process is made of, opened once and wired together.

The roles share a queue, a store, the ledger and each other's events, nothing else; here alone they meet.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bikeflow.core.events import Events, Listener
from bikeflow.core.layout import Layout
from bikeflow.core.model import (
    DatabasePublished,
    Event,
    Fault,
    LakeReconciled,
    PartitionJob,
    PartitionProcessed,
    Pulse,
    SnapshotStored,
    StoreAnswered,
    Vitals,
)
from bikeflow.ingest import Delivery, Fetcher, open_fetcher
from bikeflow.ingest.spool import NotSpooled, Spool
from bikeflow.lake.processor import Processor
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.reconciler import Reconciler
from bikeflow.lake.watcher import Watcher
from bikeflow.lake.writer import SegmentWriter
from bikeflow.ledger import Ledger
from bikeflow.runtime.log import get_logger
from bikeflow.segments.engines import Engine, Workplace, open_engine
from bikeflow.settings import Settings
from bikeflow.store import ObjectCache, Store, open_store
from bikeflow.store.counting import CountingStore
from bikeflow.warehouse import Mirror, RemoteDatabase, Warehouse
from bikeflow.warehouse.exporter import Exporter
from bikeflow.warehouse.refresher import Refresher

PROGRESS_SECONDS = 0.2
POSTGRES_SECONDS = 1.0
"""From one export to the next at least: a burst of refreshes need not be followed one by one."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of a running bikeflow."""

    layout: Layout
    store: CountingStore
    ledger: Ledger
    reconciler: Reconciler
    queue: PartitionQueue
    fetcher: Fetcher
    delivery: Delivery
    watcher: Watcher
    engine: Engine
    writer: SegmentWriter
    processors: tuple[Processor, ...]
    refresher: Refresher
    exporters: tuple[Exporter, ...]
    database_path: Path

    async def take_over(self, predecessor: Pipeline, *, same_lake: bool) -> None:
        """Go on where another pipeline was, whose roles have ended; `same_lake` says that it worked on our lake."""
        self.fetcher.take_over(predecessor.fetcher)
        spool, left = self.delivery.spool, predecessor.delivery.spool
        if left.directory.resolve() != spool.directory.resolve():
            try:
                await spool.adopt(left)
            except NotSpooled as error:
                log.error("snapshots_left_behind", count=left.depth, directory=str(left.directory), error=str(error))
        if same_lake:
            self.delivery.take_over(predecessor.delivery)
            self.watcher.take_over(predecessor.watcher)
            self.refresher.take_over(predecessor.refresher)

    async def process(
        self,
        wanted: Callable[[dt.date], bool],
        total: int = 0,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Write all dirty segments of the partitions that are `wanted`, then seal the days that are over.

        `tell` is told of progress every now and then: raw files done, and the `total` that the caller expects. The
        queue is closed afterwards.
        """
        work = asyncio.create_task(self._process(wanted))
        while not work.done():
            await asyncio.wait([work], timeout=PROGRESS_SECONDS)
            tell(min(self.writer.files_parsed, total), total)
        await work

    async def _process(self, wanted: Callable[[dt.date], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            for processor in self.processors:
                group.create_task(processor.run())
            for _ in ("as they are cut", "sealed"):
                await self.reconciler.seal_finished_days(quiet=dt.timedelta(0), idle=True)
                for partition in await asyncio.to_thread(self.ledger.files.dirty_partitions):
                    if wanted(partition):
                        await self.queue.put(PartitionJob(partition))
                await self.queue.join()
            await self.queue.close()

    async def publish(self) -> None:
        """Publish the database once, wherever it is to be published; raises Transient, Permanent."""
        await self.refresher.refresh_once()
        for exporter in self.exporters:
            await exporter.export_once()

    def vitals(self) -> Vitals:
        """How the roles are doing now."""
        fetcher, queue = self.fetcher.status, self.queue
        return Vitals(
            feed=fetcher.fault,
            delivery=fetcher.store_fault,
            watcher=_fault(self.watcher.failing_since, self.watcher.last_error),
            refresher=_fault(self.refresher.failing_since, self.refresher.last_error),
            polled_at=self.watcher.last_poll_at,
            spool_snapshots=fetcher.spool_entries,
            spool_bytes=fetcher.spool_bytes,
            queue_waiting=queue.waiting,
            queue_in_flight=queue.in_flight,
            queue_full=queue.full,
            queue_stalled_seconds=queue.stalled_seconds,
        )

    def pulses(self) -> Mapping[str, Pulse]:
        """How far each role has come; requests to the store count for those who make such."""
        fetcher, delivery, queue, answered = self.fetcher.status, self.delivery, self.queue, self.store.answered
        return {
            "fetcher": Pulse(sum(fetcher.counts.values())),
            "delivery": Pulse(delivery.attempts, idle=delivery.spool.depth == 0),
            # A full queue holds the watcher back: then it is the processors' turn.
            "watcher": Pulse(self.watcher.attempts + answered["list"] + answered["get"], idle=queue.full),
            "processors": Pulse(
                queue.finished + self.writer.files_parsed + answered["get"],
                idle=not queue.waiting and not queue.in_flight,
            ),
            "refresher": Pulse(self.refresher.steps + answered["get"], idle=self.refresher.idle),
        }


async def _no_predecessor() -> None:
    """There is nobody to wait for."""


@asynccontextmanager
async def open_pipeline(
    settings: Settings,
    events: Events | None = None,
    predecessor_left: Callable[[], Awaitable[object]] = _no_predecessor,
) -> AsyncIterator[Pipeline]:
    """Open the clients and files, build the roles; closes them in reverse order. The caller holds `data_dir`'s lock.

    `events` is where the roles tell what happens, for those who want to listen. `predecessor_left` is awaited when all
    is open that takes time, and before the spool is: until then another pipeline's fetcher may use it, so that no poll
    is missed when one takes the place of another.
    """
    data_dir, events = settings.data_dir.absolute(), events or Events()
    layout = Layout(settings.storage.prefix)
    async with AsyncExitStack() as stack:
        store = CountingStore(await stack.enter_async_context(open_store(settings.storage, data_dir)), events.emit)
        # Both take seconds in a long archive, and a predecessor's fetcher is still at work.
        ledger = await asyncio.to_thread(Ledger, data_dir, layout, settings.processing.segment_minutes)
        stack.callback(ledger.close)
        await asyncio.to_thread(ledger.runs.forgive)
        cache = ObjectCache(store, data_dir / "cache", settings.storage.cache_max_bytes)
        warehouse = Warehouse(settings.warehouse, data_dir, ledger.reports)
        # All is saved, for a tenth of a second; after a reload the loop goes on meanwhile.
        stack.push_async_callback(asyncio.to_thread, warehouse.close)
        mirror = Mirror(store, data_dir)
        await predecessor_left()
        queue = PartitionQueue(settings.processing.queue_size)
        spool = await Spool.open(data_dir / "spool", settings.feed.spool_max_bytes)
        delivery = Delivery(store, layout, spool, settings.retry, events.emit, cache)
        fetcher = await stack.enter_async_context(
            open_fetcher(settings.feed, settings.retry, delivery, ledger.feed, on_fetched=events.emit)
        )
        reconciler = Reconciler(
            store,
            layout,
            ledger,
            settings.processing.seal_after_minutes,
            trace_id=delivery.trace_id,
            tell=events.emit,
        )
        watcher = Watcher(settings.watcher, store, layout, ledger, queue, reconciler)
        engine = await stack.enter_async_context(open_engine(Workplace.of(settings), store, cache))
        writer = SegmentWriter(engine, ledger, events.emit)
        processors = [Processor(queue, ledger, writer, events.emit) for _ in range(settings.processing.workers)]
        refresher = Refresher(
            settings.warehouse,
            settings.retry,
            ledger.files.published_segments,
            mirror,
            warehouse,
            engine.recent,
            events.emit,
        )
        exporters = tuple(_exporters(settings, store, warehouse, events))
        stack.enter_context(events.heard_by(_passing_on(delivery, watcher, refresher, exporters)))
        yield Pipeline(
            layout=layout,
            store=store,
            ledger=ledger,
            reconciler=reconciler,
            queue=queue,
            fetcher=fetcher,
            delivery=delivery,
            watcher=watcher,
            engine=engine,
            writer=writer,
            processors=tuple(processors),
            refresher=refresher,
            exporters=exporters,
            database_path=warehouse.path,
        )


def _exporters(settings: Settings, store: Store, warehouse: Warehouse, events: Events) -> Iterator[Exporter]:
    if settings.warehouse.mode != "local":
        directory = settings.data_dir.absolute() / "warehouse" / "upload"
        remote = RemoteDatabase(store, settings.storage, warehouse, directory)
        yield Exporter("s3", remote, settings.retry, settings.warehouse.upload_seconds, events.emit)
    if settings.postgres.dsn.get_secret_value():
        if importlib.util.find_spec("psycopg") is None:
            log.error("postgres_driver_missing", hint="pip install 'bikeflow[postgres]', or unset postgres.dsn")
            return
        from bikeflow.warehouse.postgres import PostgresTables  # noqa: PLC0415 - its driver is optional

        tables = PostgresTables(settings.postgres, warehouse, settings.data_dir.absolute() / "warehouse" / "postgres")
        yield Exporter("postgres", tables, settings.retry, POSTGRES_SECONDS, events.emit)


def _passing_on(
    delivery: Delivery, watcher: Watcher, refresher: Refresher, exporters: tuple[Exporter, ...]
) -> Listener:
    """The way of the work: what is stored is the watcher's, what is processed the refresher's, and so on.

    And who waits for a store that failed hears of every listing that works: there is one with each poll.
    """

    def listen(event: Event) -> None:
        match event:
            case SnapshotStored():
                watcher.announce(event)
            case PartitionProcessed():
                refresher.wake(event)
            case LakeReconciled():
                refresher.wake()
            case DatabasePublished():
                for exporter in exporters:
                    exporter.wake()
            case StoreAnswered():
                watcher.note_answer(event)
                if event.operation == "list" and event.outcome == "ok":
                    delivery.store_answers()
                    refresher.store_answers()

    return listen


def _fault(since: dt.datetime | None, reason: str | None) -> Fault | None:
    return None if since is None else Fault(since, reason or "")
