"""What an existing archive tells a fetcher that remembers nothing: its newest snapshot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from bikeflow.core.layout import Layout
from bikeflow.core.model import FetchState
from bikeflow.store.base import Store

_DAYS_BACK = (2, 62)


async def newest_snapshot(
    store: Store, layout: Layout, now: dt.datetime, fingerprint: Callable[[bytes], str]
) -> FetchState | None:
    """The raw file with the greatest key, or None in an empty archive; `fingerprint` is its format's.

    In an archive in use a few LISTs of its last days find it; only one that has lain idle is listed from further back,
    at last from the beginning. Raises what the store raises.
    """
    for after in (*(layout.raw_folder((now - dt.timedelta(days)).date()) for days in _DAYS_BACK), ""):
        key = await _greatest_key(store, layout, after)
        time = layout.snapshot_time(key)
        if time is not None:
            stored = await store.get(key)
            return FetchState(fingerprint(stored.data), key, time)
    return None


async def _greatest_key(store: Store, layout: Layout, after: str) -> str:
    greatest = ""
    async for page in store.pages(layout.raw, after=after):
        greatest = max(
            (info.key for info in page if layout.raw_file(info) and layout.snapshot_time(info.key)), default=greatest
        )
    return greatest
