"""The processing half of the road for tests: a real store, a real ledger, the reconciler and one processor."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from bikeflow.core.layout import Layer, Layout
from bikeflow.core.model import PartitionJob, Run, RunFinished, SchemaDrifted
from bikeflow.core.scope import Scope
from bikeflow.feeds import format_of
from bikeflow.lake.listings import Listings
from bikeflow.lake.processor import Processor
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.reconciler import Reconciler
from bikeflow.lake.watcher import Watcher
from bikeflow.ledger import Ledger, SystemIndex
from bikeflow.segments.engines import WorkerConfig, open_engine
from bikeflow.settings.sections import LogSettings, ProcessingSettings, RetrySettings, StorageSettings, WatcherSettings
from bikeflow.store import ObjectCache, Store, open_store
from bikeflow.verifier import Report, Verifier
from bikeflow.warehouse.mirror import Mirror, mirrored_file
from tests.support.wrm import wrm, wrm_layout

RETRY = RetrySettings(attempts=2, initial_seconds=0.01, max_seconds=0.02)


@dataclass
class Road:
    """What a test drives and looks at."""

    store: Store
    layout: Layout
    ledger: Ledger
    reconciler: Reconciler
    processor: Processor
    mirror: Mirror
    told: list[RunFinished | SchemaDrifted] = field(default_factory=list)

    @property
    def index(self) -> SystemIndex:
        """What the ledger knows of the one system."""
        return self.ledger.systems[self.layout.system_id]

    @property
    def finished(self) -> list[RunFinished]:
        """The runs that it has told of."""
        return [event for event in self.told if isinstance(event, RunFinished)]

    async def put_raw(self, name: str, text: str) -> str:
        """Put a raw file in the store as somebody else would; `name` is `dt=.../....txt`."""
        key = f"{self.layout.raw}{name}"
        await self.store.put(key, text.encode())
        return key

    async def put_all(self, files: Mapping[str, bytes]) -> None:
        """Put raw files in the store, by name."""
        for name, data in files.items():
            await self.store.put(f"{self.layout.raw}{name}", data)

    async def process(self) -> list[Run]:
        """Reconcile, then process whatever is dirty."""
        await self.reconciler.reconcile()
        await self.mirror.sync(self.index.files.segment_objects())
        runs = [await self.processor.process(PartitionJob(day)) for day in self.index.files.dirty_partitions()]
        return [run for run in runs if run is not None]

    async def published_rows(self) -> Counter[str]:
        """Rows of each raw file's name in the files that the database is made of."""
        await self.mirror.sync(self.index.files.segment_objects())
        tables = [pq.ParquetFile(path).read(["s3_source_key"]) for path in self.mirror.files.values()]
        return Counter(key.rsplit("/", 1)[-1] for table in tables for key in table["s3_source_key"].to_pylist())

    async def keys(self, prefix: str = "") -> dict[str, str]:
        """ETags of all objects below the lake's prefix (or a part of it), by key."""
        below = f"{self.layout.prefix}{prefix}"
        return {info.key: info.etag async for page in self.store.pages(below) for info in page}

    async def objects(self, prefix: str) -> dict[str, bytes]:
        """Contents of all objects below a part of the lake."""
        return {key: (await self.store.get(key)).data for key in await self.keys(prefix)}

    async def rows(self, layer: Layer) -> list[dict[str, object]]:
        """All rows of a layer, whoever wrote its files."""
        contents = (await self.objects(f"{layer}/all/")).values()
        return [row for data in contents for row in pq.ParquetFile(io.BytesIO(data)).read().to_pylist()]

    async def row_counts(self, layer: Layer = "enhanced") -> Counter[str]:
        """Rows of each raw file's name in a layer."""
        return Counter(str(row["s3_source_key"]).rsplit("/", 1)[-1] for row in await self.rows(layer))

    def watcher(self, queue: PartitionQueue) -> Watcher:
        """A watcher of the road's store that fills this queue."""
        settings, runs = WatcherSettings(), self.ledger.runs
        return Watcher(
            Listings(settings, settings.poll_seconds), self.store, self.layout, self.index, runs, queue, self.reconciler
        )

    async def verify(self) -> Report:
        """The audit of the whole lake."""
        system = wrm(storage=StorageSettings(prefix=self.layout.prefix))
        return await Verifier(self.store, [system]).verify(Scope())


@asynccontextmanager
async def open_road(
    storage: StorageSettings,
    data_dir: Path,
    segment_minutes: int = 60,
    processing: ProcessingSettings | None = None,
) -> AsyncIterator[Road]:
    """A road over a store, with its ledger in `data_dir`."""
    layout = wrm_layout(storage.prefix)
    systems = (wrm(storage=storage),)
    config = WorkerConfig(data_dir, systems, storage, processing or ProcessingSettings(), RETRY, LogSettings())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(storage, data_dir))
        cache = ObjectCache(store, data_dir / "cache", storage.cache_max_bytes)
        mirror = Mirror(store, data_dir)
        engine = await stack.enter_async_context(open_engine(config, store, cache, partial(mirrored_file, data_dir)))
        ledger = stack.enter_context(Ledger(data_dir, [layout], segment_minutes))
        told: list[RunFinished | SchemaDrifted] = []
        processor = Processor(PartitionQueue(8), ledger, engine, told.append, mirror.place)
        reconciler = Reconciler(store, layout, ledger.systems[layout.system_id], format_of(systems[0]), 60)
        yield Road(store, layout, ledger, reconciler, processor, mirror, told)
