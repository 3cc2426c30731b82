"""What every object store can do, whichever adapter stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from bikeflow.core.errors import NotFound
from bikeflow.core.model import ObjectInfo, StoredObject
from bikeflow.runtime.concurrency import bounded_map

PAGE_SIZE = 1_000
CONCURRENT_REQUESTS = 8
Answer = TypeVar("Answer")


class Store(Protocol):
    """An object store; keys are full keys, prefix included, and are ordered by their UTF-8 bytes.

    Every method raises `Transient` for what may work when tried again and `Permanent` for what won't; `last_modified`
    is in whole seconds everywhere, as not every answer of every store has more.
    """

    def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """All objects below `prefix` with keys greater than `after`, in order, in pages of at most 1,000, none empty.

        A listing that failed halfway can go on with `after` = the last key seen.
        """
        ...

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        """One object's content, complete and undamaged, or only its last bytes (all of it where it is smaller).

        `info.size` is the size of the whole object in either case. Raises `NotFound`.
        """
        ...

    async def read_local(self, keys: Sequence[str]) -> dict[str, StoredObject]:
        """Read those of the objects that lie on this machine, all at once.

        What can't be read is left out; ask for it with `get`. A store elsewhere, whose `local_path` is None,
        gives none. A thousand small files, each by `get`, take longer to ask for than to read.
        """
        ...

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """Create or replace one object: readers see the old content or the new, never a part.

        One that failed as `Transient` may still take effect later: only keys whose content is settled are safe.
        """
        ...

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """Like `put`, but None where an object of this key exists, which stays as it is.

        Not every S3-compatible server honours the condition: those that don't replace the object all the same.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove one object; it is no error that there is none."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """What is known of one object. Raises `NotFound`."""
        ...

    def describe(self) -> str:
        """Where the objects lie, for logs and messages; no secrets."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object, for hard links to it, or None in a store elsewhere."""
        ...


async def if_found(request: Awaitable[Answer]) -> Answer | None:
    """What a store answers, or None where it has no such object."""
    try:
        return await request
    except NotFound:
        return None


async def read_all(store: Store, keys: Sequence[str]) -> dict[str, StoredObject]:
    """Those of the objects that exist; what lies on this machine is read in one go."""
    found = await store.read_local(keys)
    missing = [key for key in keys if key not in found]
    answers = await bounded_map(lambda key: if_found(store.get(key)), missing, CONCURRENT_REQUESTS)
    found.update((key, stored) for key, stored in zip(missing, answers, strict=True) if stored is not None)
    return found
