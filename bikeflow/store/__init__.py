"""Object storage: one protocol, one adapter a backend; a new backend is one file and one case in `open_store`."""

from __future__ import annotations

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
    match settings.backend:
        case "local":
            return open_local(data_dir)
        case "s3":
            from bikeflow.store.s3 import open_s3  # noqa: PLC0415 - importing aiobotocore takes 0.3 s

            return open_s3(settings)
