"""How often the lanes look at the store: all of them share one number of LISTs a minute.

What bikeflow fetches itself is announced, and needs no listing: listings are for the files of others. So they can wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from bikeflow.core.model import ObjectInfo
from bikeflow.settings.sections import WatcherSettings
from bikeflow.store.base import PAGE_SIZE, Store

RECONCILIATIONS = 2
"""So many lanes are reconciled at a time: each keeps the keys of its whole lake in memory meanwhile."""
FIRST_RECONCILIATIONS = 8
_BURST_SECONDS = 60.0


class Listings:
    """Gives the LISTs of all lanes their turns: `lists_per_minute` in the long run, and a minute's worth at once.

    `look_seconds` is the time from one look for new files of a lane to its next.
    """

    def __init__(self, settings: WatcherSettings, look_seconds: float) -> None:
        self.poll_seconds, self.reconcile_seconds = look_seconds, settings.reconcile_seconds
        self.reconciling = asyncio.Semaphore(RECONCILIATIONS)
        self.reconciling_first = asyncio.Semaphore(FIRST_RECONCILIATIONS)
        """For lanes that process nothing before they are reconciled; their LISTs wait for no turn."""
        self._spacing_seconds = 60 / settings.lists_per_minute
        self._next = 0.0

    async def pages(self, store: Store, prefix: str, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        """See `Store.pages`; each LIST waits for its turn."""
        await self._turn()
        async for page in store.pages(prefix, after=after):
            yield page
            if len(page) >= PAGE_SIZE - 1:  # some servers give one key less; there may be more
                await self._turn()

    async def _turn(self) -> None:
        now = time.monotonic()
        self._next = max(self._next, now - _BURST_SECONDS) + self._spacing_seconds
        await asyncio.sleep(max(self._next - now, 0.0))
