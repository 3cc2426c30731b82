"""What all systems share: one store client, one ledger, one queue with its processors, one engine, one warehouse."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bikeflow.core.events import Events
from bikeflow.feeds import layout_of
from bikeflow.ingest.upstream import Connections
from bikeflow.lake.listings import Listings
from bikeflow.lake.processor import Processor
from bikeflow.lake.queue import PartitionQueue
from bikeflow.ledger import Ledger
from bikeflow.polls import PollLog
from bikeflow.runtime.log import get_logger
from bikeflow.segments.engines import Engine, WorkerConfig, open_engine
from bikeflow.settings import Settings
from bikeflow.store import ObjectCache, Store, open_store
from bikeflow.store.counting import CountingStore
from bikeflow.warehouse import Mirror, RemoteDatabase, Warehouse
from bikeflow.warehouse.exporter import Exporter
from bikeflow.warehouse.mirror import mirrored_file
from bikeflow.warehouse.refresher import Refresher

POSTGRES_SECONDS = 1.0
"""From one export to the next at least: a burst of refreshes need not be followed one by one."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts that all lanes share."""

    settings: Settings
    events: Events
    store: CountingStore
    cache: ObjectCache
    connections: Connections
    ledger: Ledger
    listings: Listings
    polls: PollLog
    queue: PartitionQueue
    engine: Engine
    processor: Processor
    refresher: Refresher
    exporters: tuple[Exporter, ...]
    warehouse: Warehouse


@asynccontextmanager
async def open_shared(
    settings: Settings, events: Events, predecessor_left: Callable[[], Awaitable[object]] | None
) -> AsyncIterator[Shared]:
    """Open the shared parts; closes them in reverse order.

    `predecessor_left` is awaited when all is open that takes time: until then another pipeline's fetchers may be at
    work.
    """
    data_dir = settings.data_dir.absolute()
    layouts = [layout_of(system) for system in settings.all_systems]
    async with AsyncExitStack() as stack:
        store = CountingStore(await stack.enter_async_context(open_store(settings.storage, data_dir)), events.emit)
        # Both take seconds in a long archive.
        minutes = settings.processing.segment_minutes
        ledger = await asyncio.to_thread(Ledger, data_dir, layouts, minutes, watcher=settings.watcher)
        stack.callback(ledger.close)
        await asyncio.to_thread(ledger.runs.retry_now)
        polls = await asyncio.to_thread(PollLog, data_dir)
        stack.callback(polls.close)
        cache = ObjectCache(store, data_dir / "cache", settings.storage.cache_max_bytes)
        warehouse = Warehouse(settings.warehouse, data_dir, ledger.runs, settings.timezones, polls=polls)
        # All is saved, for a tenth of a second; after a reload the loop goes on meanwhile.
        stack.push_async_callback(asyncio.to_thread, warehouse.close)
        mirror = Mirror(store, data_dir, settings.all_systems[0].id)
        if predecessor_left is not None:
            await predecessor_left()
        config = WorkerConfig(
            data_dir, settings.all_systems, settings.storage, settings.processing, settings.retry, settings.log
        )
        engine = await stack.enter_async_context(open_engine(config, store, cache, partial(mirrored_file, data_dir)))
        connections = await stack.enter_async_context(Connections(settings.feed.connections_per_host))
        queue = PartitionQueue(settings.processing.queue_size)
        refresher = Refresher(
            settings.warehouse,
            settings.retry,
            ledger.published_segments,
            mirror,
            warehouse,
            events.emit,
        )
        yield Shared(
            settings=settings,
            events=events,
            store=store,
            cache=cache,
            connections=connections,
            ledger=ledger,
            listings=Listings(settings.watcher, settings.look_seconds),
            polls=polls,
            queue=queue,
            engine=engine,
            processor=Processor(queue, ledger, engine, events.emit, mirror.place),
            refresher=refresher,
            exporters=tuple(_exporters(settings, store, warehouse, events)),
            warehouse=warehouse,
        )


def _exporters(settings: Settings, store: Store, warehouse: Warehouse, events: Events) -> Iterator[Exporter]:
    directory = settings.data_dir.absolute() / "warehouse"
    if settings.warehouse.mode != "local":
        layouts = [layout_of(system) for system in settings.all_systems]
        remote = RemoteDatabase(store, settings.storage, layouts, warehouse, directory / "upload")
        yield Exporter("s3", remote, settings.retry, settings.warehouse.upload_seconds, events.emit)
    if settings.postgres.dsn.get_secret_value():
        if importlib.util.find_spec("psycopg") is None:
            log.error("postgres_driver_missing", hint="pip install 'bikeflow[postgres]', or unset postgres.dsn")
            return
        from bikeflow.warehouse.postgres import PostgresTables  # noqa: PLC0415 - its driver is optional

        tables = PostgresTables(settings.postgres, warehouse, directory / "postgres")
        yield Exporter("postgres", tables, settings.retry, POSTGRES_SECONDS, events.emit)
