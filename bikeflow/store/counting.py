"""A store that tells of every request how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bikeflow.core.errors import NotFound, Permanent, Transient
from bikeflow.core.model import ObjectInfo, StoreAnswered, StoredObject, StoreOperation
from bikeflow.store.base import Store


class CountingStore:
    """The same store, request by request; `tell` hears of each one that has ended (not of one that was cancelled)."""

    def __init__(self, store: Store, tell: Callable[[StoreAnswered], None]) -> None:
        self._store = store
        self._listener = tell
        self.answered: Counter[StoreOperation] = Counter()
        """Requests that have ended, however they did, by operation."""

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`: a request a page, and one where there is none."""
        count = 0
        with self._failures("list"):
            async for page in self._store.pages(prefix, after=after):
                count += 1
                self._tell(StoreAnswered("list", "ok"))
                yield page
        if count == 0:
            self._tell(StoreAnswered("list", "ok"))

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        """See `Store.get`."""
        with self._told("get"):
            return await self._store.get(key, last_bytes=last_bytes)

    async def at_hand(self, keys: Sequence[str]) -> dict[str, StoredObject]:
        """See `Store.at_hand`: a request for each object that is."""
        found = await self._store.at_hand(keys)
        for _ in found:
            self._tell(StoreAnswered("get", "ok"))
        return found

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See `Store.put`."""
        with self._told("put"):
            return await self._store.put(key, data)

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """See `Store.put_new`; to find an object there is an answer, and no failure."""
        with self._told("put"):
            return await self._store.put_new(key, data)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with self._told("delete"):
            await self._store.delete(key)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        with self._told("head"):
            return await self._store.head(key)

    def describe(self) -> str:
        """See `Store.describe`."""
        return self._store.describe()

    def local_path(self, key: str) -> Path | None:
        """See `Store.local_path`."""
        return self._store.local_path(key)

    @contextmanager
    def _told(self, operation: StoreOperation) -> Iterator[None]:
        with self._failures(operation):
            yield
        self._tell(StoreAnswered(operation, "ok"))

    @contextmanager
    def _failures(self, operation: StoreOperation) -> Iterator[None]:
        try:
            yield
        except NotFound:
            self._tell(StoreAnswered(operation, "not_found"))
            raise
        except Transient:
            self._tell(StoreAnswered(operation, "transient"))
            raise
        except Permanent:
            self._tell(StoreAnswered(operation, "permanent"))
            raise

    def _tell(self, event: StoreAnswered) -> None:
        self.answered[event.operation] += 1
        self._listener(event)
