"""Engines: where segments are built. A new one is one file and one line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from bikeflow.segments.engines.base import Engine, WorkerConfig
from bikeflow.segments.engines.inline import open_inline
from bikeflow.store import ObjectCache, Store

__all__ = ["Engine", "WorkerConfig", "open_engine"]

_Opener = Callable[[WorkerConfig, Store, ObjectCache], AbstractAsyncContextManager[Engine]]


def open_engine(config: WorkerConfig, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    """The configured engine, open until the context is left; `store` and `cache` are for one that works right here.

    Entering it starts nothing and makes no connection; raises ConfigError where what it needs is not installed.
    """
    return _ENGINES[config.processing.engine](config, store, cache)


def _open_process(config: WorkerConfig, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    from bikeflow.segments.engines.process import open_process  # noqa: PLC0415 - who works inline needs no pool of processes

    return open_process(config, store, cache)


def _open_dask(config: WorkerConfig, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    from bikeflow.segments.engines.dask import open_dask  # noqa: PLC0415 - as above, for an extra

    return open_dask(config, store, cache)


_ENGINES: Mapping[str, _Opener] = {"inline": open_inline, "process": _open_process, "dask": _open_dask}
