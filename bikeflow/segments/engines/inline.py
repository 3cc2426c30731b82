"""The engine that needs nothing: threads of this process, with its store and its cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from bikeflow.core.model import SegmentObject
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.memory import give_back, memory_bytes
from bikeflow.segments.builder import Built, SegmentBuilder
from bikeflow.segments.engines.base import Engine, MemoryBudget, WorkerConfig, build_bytes
from bikeflow.store import ObjectCache, Store

FEW_FILES, SMALL_BYTES = 16, 24 * 1024 * 1024
"""Below these limits, memory that a segment no longer needs is kept for the next arrival: to return it, and ask for it
again, takes longer. An hour of 30-second snapshots of a large city stays below, a day does not."""


class InlineEngine(Engine):
    """Builds here, with the caller's own store and cache, as many segments at once as memory allows.

    `copies` tells where this machine may have a copy of an enhanced file.
    """

    def __init__(
        self,
        config: WorkerConfig,
        store: Store,
        cache: ObjectCache,
        copies: Callable[[SegmentObject], Path] | None = None,
    ) -> None:
        self._builder = SegmentBuilder(store, cache, config.systems, config.retry, copies)
        self._budget = MemoryBudget(memory_bytes(config.processing.memory_limit))

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """See `Engine.build`."""
        size = build_bytes(work)
        async with self._budget.room(size):
            built = await self._builder.build(work, parsed)
        if len(built.parsed) > FEW_FILES or size > SMALL_BYTES:
            await asyncio.to_thread(give_back)
        return built

    def fail_fast(self) -> None:
        """See `Engine.fail_fast`."""
        self._builder.fail_fast()
