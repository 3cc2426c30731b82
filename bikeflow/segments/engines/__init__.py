"""Engines: where segments are built. A new one is one file and one line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from bikeflow.segments.engines.base import Engine, Workplace
from bikeflow.segments.engines.inline import open_inline
from bikeflow.store import ObjectCache, Store

__all__ = ["Engine", "Workplace", "open_engine"]

_Opener = Callable[[Workplace, Store, ObjectCache], AbstractAsyncContextManager[Engine]]


def open_engine(workplace: Workplace, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    """The configured engine, open until the context is left; `store` and `cache` are for one that works right here.

    Entering it starts nothing and makes no connection; raises ConfigError where what it needs is not installed.
    """
    return _ENGINES[workplace.processing.engine](workplace, store, cache)


def _open_process(workplace: Workplace, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    from bikeflow.segments.engines.process import open_process  # noqa: PLC0415 - who works inline needs no pool of processes

    return open_process(workplace, store, cache)


def _open_dask(workplace: Workplace, store: Store, cache: ObjectCache) -> AbstractAsyncContextManager[Engine]:
    from bikeflow.segments.engines.dask import open_dask  # noqa: PLC0415 - as above, for an extra

    return open_dask(workplace, store, cache)


_ENGINES: Mapping[str, _Opener] = {"inline": open_inline, "process": _open_process, "dask": _open_dask}
