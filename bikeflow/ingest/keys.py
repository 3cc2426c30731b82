"""Keys of snapshots whose second is taken."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

from bikeflow.core.errors import Transient
from bikeflow.core.layout import Layout
from bikeflow.store.base import Store

_SECOND = dt.timedelta(seconds=1)


async def next_free_second(
    store: Store,
    layout: Layout,
    taken: dt.datetime,
    waiting: Callable[[dt.datetime], dt.datetime] = lambda at: at,
    stop: asyncio.Event | None = None,
) -> dt.datetime:
    """The next second after one that is taken of which the store has no raw file, by one listing.

    `waiting` gives a second, or the next one of which no snapshot waits. Raises what the store raises, and `Transient`
    once `stop` is set.
    """
    at = waiting(taken + _SECOND)
    async for page in store.pages(layout.raw, after=layout.raw_key(taken)):
        keys = {info.key for info in page}
        while layout.raw_key(at) in keys:
            at = waiting(at + _SECOND)
        if layout.raw_key(at) <= page[-1].key:
            break
        if stop is not None and stop.is_set():
            raise Transient("the service stops while it looks for a free key")
    return at
