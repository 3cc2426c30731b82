"""Engines: where segments are built. A new one is one file and one case below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bikeflow.core.model import SegmentObject
from bikeflow.segments.engines.base import Engine, WorkerConfig
from bikeflow.segments.engines.inline import InlineEngine
from bikeflow.store import ObjectCache, Store

__all__ = ["Engine", "WorkerConfig", "open_engine"]


def open_engine(
    config: WorkerConfig, store: Store, cache: ObjectCache, copies: Callable[[SegmentObject], Path] | None = None
) -> Engine:
    """The configured engine, to be entered as a context; all but `config` is for one that works right here.

    It starts nothing and makes no connection yet; raises ConfigError where what it needs is not installed.
    """
    match config.processing.engine:
        case "inline":
            return InlineEngine(config, store, cache, copies)
        case "process":
            from bikeflow.segments.engines.process import ProcessEngine  # noqa: PLC0415 - others need no processes

            return ProcessEngine(config)
        case "dask":
            from bikeflow.segments.engines.dask import DaskEngine  # noqa: PLC0415 - as above, for an extra

            return DaskEngine(config)
