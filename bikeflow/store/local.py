"""The lake as plain files: an object is a file of the same name below one directory."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from bikeflow.core.errors import BikeflowError, NotFound, Permanent, Transient
from bikeflow.core.model import ObjectInfo, StoredObject
from bikeflow.store.base import PAGE_SIZE, Store
from bikeflow.store.files import FileWriter
from bikeflow.store.tree import Tree, is_text, object_info

T = TypeVar("T")

_PERMANENT = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG,
})  # fmt: skip


@asynccontextmanager
async def open_local(data_dir: Path) -> AsyncIterator[Store]:
    """The store in `data_dir`/lake, which is created where it is missing."""

    def prepare() -> Path:
        root = data_dir / "lake"
        with _translated(f"open the lake {root}"):
            root.mkdir(parents=True, exist_ok=True)
            return root.resolve()

    yield LocalStore(await asyncio.to_thread(prepare))


class LocalStore(Store):
    """A directory as an object store; every operation runs in a thread.

    Names that begin with a dot are never objects: what is being written hides behind such a name.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writer = FileWriter(root)
        self._tree = Tree(root)

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`; what a listing after a key may miss, `Tree.objects` tells."""
        objects = self._tree.objects(prefix, after)

        def next_page() -> list[ObjectInfo]:
            with _translated(f"list {self._root}/{prefix}"):
                return list(islice(objects, PAGE_SIZE))

        while page := await asyncio.to_thread(next_page):
            yield page

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        return await self._in_thread("read", key, lambda path: _read(path, key, last_bytes), existing=True)

    async def read_local(self, keys: Sequence[str]) -> dict[str, StoredObject]:

        def read_all() -> dict[str, StoredObject]:
            found = {}
            for key in keys:
                with suppress(BikeflowError), _translated(f"read {key}"):
                    found[key] = _read(self._root / _checked(key), key, None)
            return found

        return await asyncio.to_thread(read_all)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See `Store.put`; on return the content is on the disk."""
        return await self._in_thread("write", key, lambda path: object_info(key, self._writer.write(path, data)))

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        """See `Store.put_new`; of several at once, one wins."""

        def write(path: Path) -> ObjectInfo | None:
            try:
                return object_info(key, self._writer.write(path, data, only_new=True))
            except FileExistsError:
                return None

        return await self._in_thread("write", key, write)

    async def delete(self, key: str) -> None:
        """See `Store.delete`; directories that it leaves empty go as well."""
        with suppress(NotFound):
            await self._in_thread("delete", key, self._writer.remove, existing=True)

    async def head(self, key: str) -> ObjectInfo:
        return await self._in_thread("look at", key, lambda path: _head(path, key), existing=True)

    def describe(self) -> str:
        """The directory."""
        return str(self._root)

    def local_path(self, key: str) -> Path | None:
        """The object's file, whether it exists or not."""
        return self._root / _checked(key)

    async def _in_thread(self, doing: str, key: str, work: Callable[[Path], T], *, existing: bool = False) -> T:
        """What `work` gives; it raises `NotFound` where it needs an `existing` object and there is none."""
        path = self._root / _checked(key)

        def run() -> T:
            with _translated(f"{doing} {path}", key if existing else None):
                return work(path)

        return await asyncio.to_thread(run)


def _read(path: Path, key: str, last_bytes: int | None) -> StoredObject:
    with path.open("rb", buffering=0) as file:
        info = object_info(key, os.fstat(file.fileno()))
        start = 0 if last_bytes is None else max(info.size - last_bytes, 0)
        if start:
            file.seek(start)
        data = file.readall()
    if len(data) != info.size - start:
        raise Transient(f"read {path}: it changed while being read")
    return StoredObject(info, data)


def _head(path: Path, key: str) -> ObjectInfo:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotFound(f"no object {key!r}")
    return object_info(key, status)


def _checked(key: str) -> str:
    """The key, if it names a file below the root and nothing else."""
    if "\0" in key or not is_text(key) or any(not part or part.startswith(".") for part in key.split("/")):
        raise Permanent(f"the local store can't hold the key {key!r}: no empty or dotted names between slashes")
    return key


@contextmanager
def _translated(doing: str, key: str | None = None) -> Iterator[None]:
    """Errors of the system as ours; with the `key` of an object that is needed, `NotFound` where there is none.

    Where a directory stands in the key's place, or a file in its parent's, there is no such object either.
    """
    try:
        yield
    except OSError as error:
        if key is not None and isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise NotFound(f"no object {key!r}") from error
        kind = Permanent if error.errno in _PERMANENT else Transient
        raise kind(f"cannot {doing}: {error.strerror or error}") from error
