"""A store whose Nth call goes wrong, in each of the ways in which a real one does.

The store behind it is a real one; the wrapper claims to be remote (`local_path` gives nothing), so that the mirror and
the cache go through it as they go through S3. A page of a listing is a call of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from bikeflow.core.errors import Transient
from bikeflow.core.model import ObjectInfo, StoredObject
from bikeflow.store import Store

Kind = Literal["before", "after", "late", "truncated", "hang"]
KINDS: tuple[Kind, ...] = ("before", "after", "late", "truncated", "hang")
"""How a call fails: without effect; after its effect, so that only the answer is lost; the effect comes `LATE_CALLS`
calls later, when nobody waits for it any more; the body read is cut short; no answer until the timeout."""

LATE_CALLS = 4
PAGE_SIZE = 3
HANG_SECONDS = 0.02
Answer = TypeVar("Answer")


class ChaosStore:
    """Hands everything to the real store, but for call number `nth` (from 1; 0: none)."""

    def __init__(self, inner: Store, nth: int = 0, kind: Kind = "before", before: Sequence[str] = ()) -> None:
        """`before` are the calls that were made already, when only what follows is to be gone through again."""
        self.inner = inner
        self.calls = list(before)
        self.failed = ""
        """Which call went wrong, or empty where none has yet."""
        self._nth = nth
        self._kind = kind
        self._late: Callable[[], Awaitable[object]] | None = None

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`."""
        infos = [info async for page in self.inner.pages(prefix, after=after) for info in page]
        for start in range(0, len(infos), PAGE_SIZE):
            await self._call(f"list {prefix}", _nothing, changes=False)
            yield infos[start : start + PAGE_SIZE]
        await self._call(f"list {prefix}", _nothing, changes=False)

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        """See `Store.get`."""
        return await self._call(f"get {key}", lambda: self.inner.get(key, last_bytes=last_bytes), changes=False)

    async def read_local(self, _keys: Sequence[str]) -> dict[str, StoredObject]:
        """Nothing: each object is got by a call of its own, which can fail."""
        return {}

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See `Store.put`."""
        return await self._call(f"put {key}", lambda: self.inner.put(key, data), changes=True)

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """See `Store.put_new`."""
        return await self._call(f"put {key}", lambda: self.inner.put_new(key, data), changes=True)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._call(f"delete {key}", lambda: self.inner.delete(key), changes=True)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._call(f"head {key}", lambda: self.inner.head(key), changes=False)

    def describe(self) -> str:
        """See `Store.describe`."""
        return f"chaos over {self.inner.describe()}"

    def local_path(self, _key: str) -> Path | None:
        """Nothing lies on this machine."""
        return None

    async def settle(self) -> None:
        """Let what is still to land late land now."""
        late, self._late = self._late, None
        if late is not None:
            await late()

    async def _call(self, name: str, work: Callable[[], Awaitable[Answer]], *, changes: bool) -> Answer:
        self.calls.append(name)
        number = len(self.calls)
        if number == self._nth + LATE_CALLS:
            await self.settle()
        if number != self._nth:
            return await work()
        self.failed = f"{self._kind}: {name}"
        return await self._fail(name, work, changes=changes)

    async def _fail(self, name: str, work: Callable[[], Awaitable[Answer]], *, changes: bool) -> Answer:
        match self._kind:
            case "after" if changes:
                await work()
            case "late" if changes:
                self._late = work
            case "truncated":
                answer = await work()
                if isinstance(answer, StoredObject) and answer.info.key.endswith(".parquet"):
                    # What no size and no digest betrays: the end of a Parquet file is where its footer should be.
                    return StoredObject(answer.info, answer.data[: len(answer.data) // 2])  # type: ignore[return-value]
            case "hang":
                await asyncio.sleep(HANG_SECONDS)
        raise Transient(f"{name}: no answer in time")


async def _nothing() -> None:
    """A listing's page is already there."""
