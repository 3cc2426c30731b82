"""A bounded copy on this machine of objects that were read or written before."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from bikeflow.core.errors import Transient
from bikeflow.core.model import ObjectInfo
from bikeflow.runtime.files import write_whole
from bikeflow.store.base import Store

_DIGEST_BYTES = 32


class ObjectCache:
    """Reads objects through a directory of copies, by key and ETag; the least recently used go first.

    `max_bytes` bounds the directory, and 0 turns the copies off, as does a store on this machine. The copies survive
    restarts; a damaged one is dropped and read again. A disk that fails costs speed, never an answer.

    A copy is the SHA-256 of the content and the content; its name stands for key and ETag. The order of last use is
    kept in memory, and in the modification times from one start to the next.
    """

    def __init__(self, store: Store, directory: Path, max_bytes: int) -> None:
        self._store = store
        self._directory = directory
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._opened = False
        self._healthy = True
        self._lock = threading.Lock()

    async def get(self, info: ObjectInfo) -> bytes:
        """The content that `info` speaks of. Raises `NotFound`, or `Transient` where it is another one by now."""
        copied = self._is_copied(info)
        data = await asyncio.to_thread(self._take, info) if copied else None
        if data is not None:
            return data
        stored = await self._store.get(info.key)
        if stored.info.etag != info.etag:
            raise Transient(f"{info.key!r} has changed since it was listed")
        await self.remember(info, stored.data)
        return stored.data

    async def read_local(self, infos: Sequence[ObjectInfo]) -> dict[str, bytes]:
        """By key, the contents of those of the objects that lie on this machine as they were listed."""
        copied = [info for info in infos if self._is_copied(info)]
        if copied:
            copies = await asyncio.to_thread(lambda: {info.key: self._take(info) for info in copied})
            return {key: data for key, data in copies.items() if data is not None}
        found = await self._store.read_local([info.key for info in infos])
        return {
            info.key: found[info.key].data
            for info in infos
            if info.key in found and found[info.key].info.etag == info.etag
        }

    async def remember(self, info: ObjectInfo, data: bytes) -> None:
        """Keep a copy of what was just written or read."""
        if self._is_copied(info):
            await asyncio.to_thread(self._put, info, data)

    def _is_copied(self, info: ObjectInfo) -> bool:
        return 0 < info.size + _DIGEST_BYTES <= self._max_bytes and self._store.local_path(info.key) is None

    def _take(self, info: ObjectInfo) -> bytes | None:
        """The copy, or None where there is none or it is damaged."""
        name = _name(info)
        with self._disk():
            self._open()
            if name in self._sizes:
                content = (self._directory / name).read_bytes()
                digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
                if len(data) == info.size and hashlib.sha256(data).digest() == digest:
                    os.utime(self._directory / name)
                    self._sizes.move_to_end(name)
                    return data
                self._drop(name)
        return None

    def _put(self, info: ObjectInfo, data: bytes) -> None:
        """Add a copy, and drop those that there is no longer room for."""
        name, content = _name(info), hashlib.sha256(data).digest() + data
        with self._disk():
            self._open()
            write_whole(self._directory / name, content)
            self._sizes[name] = len(content)
            self._sizes.move_to_end(name)
            while sum(self._sizes.values()) > self._max_bytes:
                self._drop(next(iter(self._sizes)))
            self._healthy = True

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Use the directory, one thread at a time; a failing disk is logged once, and costs only the copy."""
        with self._lock:
            try:
                yield
            except OSError as error:
                self._opened = False  # somebody may have emptied the directory: look again
                if self._healthy:
                    structlog.get_logger().warning("cache failed", directory=str(self._directory), error=str(error))
                self._healthy = False

    def _open(self) -> None:
        """At first use, find what earlier runs have left."""
        if self._opened:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        found = []
        for path in self._directory.iterdir():
            status = path.stat()
            found.append((status.st_mtime_ns, path.name, status.st_size))
        # Half-written files are among them: nobody asks for their names, so they age and go like all others.
        self._sizes = OrderedDict((name, size) for _, name, size in sorted(found))
        self._opened = True

    def _drop(self, name: str) -> None:
        del self._sizes[name]
        (self._directory / name).unlink(missing_ok=True)


def _name(info: ObjectInfo) -> str:
    return hashlib.sha256(f"{info.key}\n{info.etag}".encode()).hexdigest()
