from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bikeflow.settings.sections import StorageSettings, WarehouseSettings
from bikeflow.store import open_store
from bikeflow.warehouse import Mirror, MirrorChange, Refresh, Warehouse
from bikeflow.warehouse.polls import PollSource
from tests.support.parquet import EnhancedLayer
from tests.support.wrm import wrm_layout


@dataclass
class Analytics:
    """A lake with an enhanced layer, its mirror and its warehouse."""

    data_dir: Path
    layer: EnhancedLayer
    mirror: Mirror
    warehouse: Warehouse
    _reader: duckdb.DuckDBPyConnection | None = field(default=None, init=False)

    async def refresh(self, *, quick: bool = False) -> Refresh:
        """Publish what the layer holds; `quick` hands on what was written, as the processors do."""
        await self.sync()
        written = dict(self.layer.written) if quick else {}
        self.layer.written.clear()
        refresh = await asyncio.to_thread(self.warehouse.refresh, self.mirror.files, written)
        await self.mirror.prune()
        return refresh

    async def sync(self) -> MirrorChange:
        return await self.mirror.sync(self.layer.wanted)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a reader gets from the published database."""
        with self.reading() as reader:
            return reader.execute(f"USE wrm_analytics; {sql}", parameters or None).fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Queries within share a connection: to open one takes longer than most of them. Nothing is published here."""
        if self._reader is not None:
            yield self._reader
            return
        with contextlib.closing(duckdb.connect(self.warehouse.path, read_only=True)) as reader:
            self._reader = reader
            try:
                yield reader
            finally:
                self._reader = None

    def reopened(self) -> Analytics:
        """What a new process finds in the same directory."""
        self.warehouse.close()
        return Analytics(
            self.data_dir,
            self.layer,
            Mirror(self.layer.store, self.data_dir),
            Warehouse(WarehouseSettings(), self.data_dir),
        )


@asynccontextmanager
async def open_analytics(
    data_dir: Path,
    storage: StorageSettings | None = None,
    settings: WarehouseSettings | None = None,
    systems: Sequence[str] = ("wrm",),
    polls: PollSource | None = None,
) -> AsyncIterator[Analytics]:
    storage = storage or StorageSettings()
    async with open_store(storage, data_dir) as store:
        layer = EnhancedLayer(store, wrm_layout(storage.prefix))
        warehouse = Warehouse(
            settings or WarehouseSettings(), data_dir, systems=dict.fromkeys(systems, "Europe/Warsaw"), polls=polls
        )
        yield Analytics(data_dir, layer, Mirror(store, data_dir), warehouse)
        warehouse.close()


@pytest.fixture
async def analytics(tmp_path: Path) -> AsyncIterator[Analytics]:
    async with open_analytics(tmp_path / "data") as opened:
        yield opened


@pytest.fixture(params=["local", "s3"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Analytics]:
    """Over a local lake, and over a real S3 server."""
    storage = None if request.param == "local" else request.getfixturevalue("s3_server").settings()
    async with open_analytics(tmp_path / "data", storage) as opened:
        yield opened
