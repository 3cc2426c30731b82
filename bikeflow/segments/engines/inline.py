"""The engine that needs nothing: threads of this process, with its store and its cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bikeflow.core.layout import Layout
from bikeflow.core.model import SegmentObject
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.memory import give_back, memory_bytes
from bikeflow.segments.builder import Built, SegmentBuilder
from bikeflow.segments.engines.base import Engine, Workplace
from bikeflow.segments.engines.budget import MemoryBudget, build_bytes
from bikeflow.segments.table import SegmentTable
from bikeflow.store import ObjectCache, Store

FEW_FILES, SMALL_BYTES = 16, 24 * 1024 * 1024
"""What parsing so many files, and building so large a segment, leaves free, the next arrival uses: to give it back and
fetch it anew takes longer. An hour of 30-second snapshots of a large city is smaller, a day is not."""


class InlineEngine:
    """Builds here, as many segments at once as memory allows."""

    def __init__(self, builder: SegmentBuilder, budget: MemoryBudget) -> None:
        self._builder = builder
        self._budget = budget

    async def ready(self) -> None:
        """See `Engine.ready`: always."""

    async def build(self, work: SegmentWork, parsed: Callable[[int], None]) -> Built:
        """See `Engine.build`."""
        size = build_bytes(work)
        async with self._budget.room(size):
            built = await self._builder.build(work, parsed)
        if built.files > FEW_FILES or size > SMALL_BYTES:
            await asyncio.to_thread(give_back)
        return built

    def recent(self, source: SegmentObject) -> SegmentTable | None:
        """See `Engine.recent`."""
        return self._builder.recent(source)

    def hurry(self) -> None:
        """See `Engine.hurry`."""
        self._builder.hurry()


@asynccontextmanager
async def open_inline(workplace: Workplace, store: Store, cache: ObjectCache) -> AsyncIterator[Engine]:
    """An engine over the caller's own store and cache."""
    builder = SegmentBuilder(store, cache, Layout(workplace.storage.prefix), workplace.rules, workplace.retry)
    yield InlineEngine(builder, MemoryBudget(memory_bytes(workplace.processing.memory_limit)))
