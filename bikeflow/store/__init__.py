"""Object storage: one protocol, one adapter a backend; a new backend is one file and one line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bikeflow.settings.sections import StorageSettings
from bikeflow.store.base import PAGE_SIZE, Store
from bikeflow.store.cache import ObjectCache
from bikeflow.store.local import open_local

__all__ = ["PAGE_SIZE", "ObjectCache", "Store", "open_store"]


def open_store(settings: StorageSettings, data_dir: Path) -> AbstractAsyncContextManager[Store]:
    """The configured object store, open until the context is left; `data_dir` holds the local one.

    Entering it makes no request: a store that can't be reached is noticed by the first operation.
    """
    return _BACKENDS[settings.backend](settings, data_dir)


def _open_s3(settings: StorageSettings, _data_dir: Path) -> AbstractAsyncContextManager[Store]:
    from bikeflow.store.s3 import open_s3  # noqa: PLC0415 - aiobotocore takes 0.3 s to import, a local lake none

    return open_s3(settings)


_BACKENDS: Mapping[str, Callable[[StorageSettings, Path], AbstractAsyncContextManager[Store]]] = {
    "local": open_local,
    "s3": _open_s3,
}
