"""A store that tells of every request how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from bikeflow.core.errors import NotFound, Permanent, Transient
from bikeflow.core.model import ObjectInfo, StoreAnswered, StoredObject, StoreOperation, StoreOutcome
from bikeflow.store.base import Store

Answer = TypeVar("Answer")


class CountingStore(Store):
    """The same store, request by request; `tell` hears of each one that has ended (not of one that was cancelled)."""

    def __init__(self, store: Store, tell: Callable[[StoreAnswered], None]) -> None:
        self._store = store
        self._listener = tell
        self.answered: Counter[StoreOperation] = Counter()
        """Requests that have ended, however they did, by operation."""

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`: a request a page, and one where there is none."""
        count = 0
        try:
            async for page in self._store.pages(prefix, after=after):
                count += 1
                self._tell("list", "ok")
                yield page
        except (Transient, Permanent) as error:
            self._tell("list", _outcome(error))
            raise
        if count == 0:
            self._tell("list", "ok")

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        return await self._told("get", self._store.get(key, last_bytes=last_bytes))

    async def read_local(self, keys: Sequence[str]) -> dict[str, StoredObject]:
        """See `Store.read_local`: a request for each object that is."""
        found = await self._store.read_local(keys)
        for _ in found:
            self._tell("get", "ok")
        return found

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        return await self._told("put", self._store.put(key, data))

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """See `Store.put_new`; to find an object there is an answer, and no failure."""
        return await self._told("put", self._store.put_new(key, data))

    async def delete(self, key: str) -> None:
        await self._told("delete", self._store.delete(key))

    async def head(self, key: str) -> ObjectInfo:
        return await self._told("head", self._store.head(key))

    def describe(self) -> str:
        return self._store.describe()

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(key)

    async def _told(self, operation: StoreOperation, request: Awaitable[Answer]) -> Answer:
        try:
            answer = await request
        except (Transient, Permanent) as error:
            self._tell(operation, _outcome(error))
            raise
        self._tell(operation, "ok")
        return answer

    def _tell(self, operation: StoreOperation, outcome: StoreOutcome) -> None:
        self.answered[operation] += 1
        self._listener(StoreAnswered(operation, outcome))


def _outcome(error: Transient | Permanent) -> StoreOutcome:
    if isinstance(error, NotFound):
        return "not_found"
    return "transient" if isinstance(error, Transient) else "permanent"
