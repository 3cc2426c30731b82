"""Two services that fetch into one bucket, and store different documents in the same second."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC
from bikeflow.ingest import Delivery
from bikeflow.ingest.spool import Spool
from bikeflow.settings.sections import RetrySettings
from bikeflow.store import Store, open_store
from tests.support.chaos_proxy import proxying
from tests.support.s3server import S3Server

SECONDS = 12
RETRY = RetrySettings(attempts=20, initial_seconds=0.01, max_seconds=0.05)
FIRST = dt.datetime(2025, 6, 1, 12, tzinfo=UTC)


async def race(store: Store, layout: Layout, directory: Path) -> set[bytes]:
    """Two deliveries, each with a snapshot for each of the same seconds; returns all contents that are stored."""
    both = []
    for name in ("one", "two"):
        spool = await Spool.open(directory / name, 1_000_000)
        both.append(Delivery(store, layout, spool, RETRY))
        for second in range(SECONDS):
            at = FIRST + dt.timedelta(seconds=3 * second)
            await both[-1].accept(at, name, f"{name} {second}".encode())
    assert all(await asyncio.gather(*(delivery.drain() for delivery in both)))
    infos = [info async for page in store.pages(layout.raw) for info in page]
    return {(await store.get(info.key)).data for info in infos}


def all_of_both() -> set[bytes]:
    return {f"{name} {second}".encode() for name in ("one", "two") for second in range(SECONDS)}


async def test_where_the_server_honours_conditions_none_overwrites_the_other(
    tmp_path: Path, s3_server: S3Server
) -> None:
    storage = s3_server.settings()
    if not s3_server.endpoint_url.startswith("http:"):
        pytest.skip("the proxy speaks http")
    async with proxying(s3_server) as proxy:
        proxy.honours_conditions = True
        storage = storage.model_copy(update={"endpoint_url": proxy.server.endpoint_url})
        async with open_store(storage, tmp_path) as store:
            assert await race(store, Layout(storage.prefix), tmp_path) == all_of_both()


async def test_nor_in_a_local_lake(tmp_path: Path, s3_server: S3Server) -> None:
    storage = s3_server.settings(backend="local")
    async with open_store(storage, tmp_path) as store:
        assert await race(store, Layout(storage.prefix), tmp_path) == all_of_both()
