from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from bikeflow.core.model import ObjectInfo
from bikeflow.runtime.retry import retrying
from bikeflow.settings.sections import RetrySettings, StorageSettings
from bikeflow.store import Store, open_store

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A part of a store that one test has for itself: all its keys begin with `prefix`."""

    store: Store
    prefix: str

    def key(self, name: str) -> str:
        return self.prefix + name

    async def persistently(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Try again as the service does: rclone answers 500 to some concurrent requests."""
        patience = RetrySettings(attempts=50, initial_seconds=0.002, max_seconds=0.02)
        result: T = await retrying(patience, on_retry=lambda *_: None)(function, *args)
        return result

    async def put(self, *names: str) -> None:
        for name in names:
            await self.store.put(self.key(name), name.encode())

    async def listed(self, prefix: str = "", after: str = "") -> list[ObjectInfo]:
        pages = self.store.pages(self.key(prefix), after=self.key(after) if after else "")
        return [info async for page in pages for info in page]

    async def names(self, prefix: str = "", after: str = "") -> list[str]:
        return [info.key.removeprefix(self.prefix) for info in await self.listed(prefix, after)]


BACKENDS = ["local", "s3", "s3-tls"]


# One client for the whole session, as in the service's life; making one takes longer than most tests.
@pytest_asyncio.fixture(scope="session", loop_scope="session", params=BACKENDS)
async def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Store, StorageSettings]]:
    """Each kind of store in turn, empty at first; tests that take it run in the session's event loop."""
    servers = {"s3": "s3_server", "s3-tls": "s3_tls_server"}
    if request.param in servers:
        settings = request.getfixturevalue(servers[request.param]).settings(max_connections=8)
    else:
        settings = StorageSettings(backend=request.param)
    async with open_store(settings, tmp_path_factory.mktemp("data")) as store:
        yield store, settings


@pytest.fixture
def place(opened: tuple[Store, StorageSettings]) -> Place:
    store, settings = opened
    return Place(store, f"{settings.prefix}{secrets.token_hex(4)}/")


@pytest_asyncio.fixture
async def local_store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(StorageSettings(), tmp_path) as store:
        yield store
