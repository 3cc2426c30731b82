"""How many segments are built on this machine at once: as many as memory allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bikeflow.ledger.files import SegmentWork

_RAW_FACTOR = 2
_BASE_FACTOR = 20


def build_bytes(work: SegmentWork) -> int:
    """About how many bytes of memory it takes at most to build a segment.

    Measured over days of some 750 lines a file: the rows of raw files in columns and the Parquet files made of them
    take less than twice the bytes of their texts, and 20 times those of a compressed segment that is read again.
    """
    in_bases = sum(base.size for base in work.bases)
    fresh = sum(raw.size for raw in work.files if raw.key in work.changed)
    return _RAW_FACTOR * fresh + _BASE_FACTOR * in_bases


class MemoryBudget:
    """A number of bytes that is lent out; what is larger than all of it gets its turn alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._returned = asyncio.Event()

    @asynccontextmanager
    async def room(self, wanted: int) -> AsyncIterator[None]:
        """Wait for that many bytes, and hold them until the context is left."""
        taken = min(wanted, self._total)
        while self._free < taken:
            self._returned.clear()
            await self._returned.wait()
        self._free -= taken
        try:
            yield
        finally:
            self._free += taken
            self._returned.set()
