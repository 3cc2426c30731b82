"""What an existing archive tells a fetcher that remembers nothing: its newest snapshot."""

from __future__ import annotations

import datetime as dt
import hashlib

from bikeflow.core.layout import Layout
from bikeflow.core.model import FetchState
from bikeflow.store.base import Store

_DAYS_BACK = (2, 62)


async def newest_snapshot(store: Store, layout: Layout, now: dt.datetime) -> FetchState | None:
    """The raw file with the greatest key, or None in an empty archive.

    In an archive in use a few LISTs of its last days find it; only one that has lain idle is listed from further back,
    at last from the beginning. Raises what the store raises.
    """
    for after in (*(layout.raw_folder((now - dt.timedelta(days)).date()) for days in _DAYS_BACK), ""):
        key = ""
        async for page in store.pages(layout.raw, after=after):
            keys = (info.key for info in page if layout.raw_file(info) and layout.snapshot_time(info.key))
            key = max(keys, default=key)
        time = layout.snapshot_time(key)
        if time is not None:
            stored = await store.get(key)
            return FetchState(hashlib.sha256(stored.data).hexdigest(), key, time)
    return None
