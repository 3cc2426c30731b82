"""How many segments are built on this machine at once: as many as memory allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bikeflow.ledger.files import SegmentWork

_PER_RAW_BYTE = 2


def build_bytes(work: SegmentWork) -> int:
    """About how many bytes of memory it takes at most to build a segment.

    Measured over days of 2,880 files with some 750 lines each: 1.8 times the bytes of the raw files, whose rows are
    all held in columns while both Parquet files are made, whether they are parsed or come from an earlier segment.
    """
    return _PER_RAW_BYTE * sum(raw.size for raw in work.files)


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
