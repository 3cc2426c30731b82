"""Whose Parquet file an object is: ours, somebody else's, or none at all."""

from __future__ import annotations

import asyncio
from enum import Enum

import pyarrow as pa

from bikeflow.segments.footer import FOOTER_READ_BYTES, Footer, read_footer
from bikeflow.store.base import Store


class NotOurs(Enum):
    """Why an object has no provenance of ours."""

    FOREIGN = "a Parquet file that bikeflow did not write"
    DAMAGED = "no whole Parquet file"


async def read_provenance(store: Store, key: str) -> Footer | NotOurs:
    """The footer of our file under this key, read from its end where that is enough; raises what the store raises."""
    try:
        tail = await store.get(key, last_bytes=FOOTER_READ_BYTES)
        try:
            footer = await asyncio.to_thread(read_footer, tail.data)
        except (pa.ArrowInvalid, OSError):
            if tail.info.size <= FOOTER_READ_BYTES:
                raise
            footer = await asyncio.to_thread(read_footer, (await store.get(key)).data)
    except (pa.ArrowInvalid, OSError):
        return NotOurs.DAMAGED
    return footer or NotOurs.FOREIGN
