"""Object storage: one protocol, one adapter a backend; a new backend is one file and one line in `_BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bikeflow.core.errors import ConfigError
from bikeflow.settings.sections import StorageSettings
from bikeflow.store.base import PAGE_SIZE, Store
from bikeflow.store.cache import ObjectCache
from bikeflow.store.local import open_local

__all__ = ["PAGE_SIZE", "ObjectCache", "Store", "check_backend", "open_store"]


def open_store(settings: StorageSettings, data_dir: Path) -> AbstractAsyncContextManager[Store]:
    """The configured object store, open until the context is left; `data_dir` holds the local one.

    Entering it makes no request: a store that can't be reached is noticed by the first operation.
    """
    check_backend(settings)
    return _BACKENDS[settings.backend](settings, data_dir)


def check_backend(settings: StorageSettings) -> None:
    """Raise ConfigError where there is no such backend."""
    if settings.backend not in _BACKENDS:
        known = " or ".join(f'"{name}"' for name in _BACKENDS)
        raise ConfigError(f'storage.backend = "{settings.backend}": must be {known}')


def _s3(settings: StorageSettings, data_dir: Path) -> AbstractAsyncContextManager[Store]:
    from bikeflow.store.s3 import open_s3  # noqa: PLC0415 - importing aiobotocore takes 0.3 s

    return open_s3(settings)


_BACKENDS: Mapping[str, Callable[[StorageSettings, Path], AbstractAsyncContextManager[Store]]] = {
    "local": lambda settings, data_dir: open_local(data_dir),
    "s3": _s3,
}
