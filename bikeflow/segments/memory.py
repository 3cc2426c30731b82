"""The rows of the segments that are being added to, kept so that an arrival reads nothing but itself."""

from __future__ import annotations

from collections import OrderedDict

from bikeflow.segments.table import SegmentTable

MEMORY_BYTES = 64 * 1024 * 1024
"""Room for the rows of the open segments; an hour of 30-second snapshots takes about 12 MB."""
SEGMENTS = 4
"""Snapshots arrive in one segment, late ones in that before: rows of older ones would only fill memory."""


class SegmentMemory:
    """The rows of recently written segments, by key and ETag of their enhanced file; least recently used go."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tables: OrderedDict[tuple[str, str], tuple[SegmentTable, int]] = OrderedDict()

    def get(self, key: str, etag: str) -> SegmentTable | None:
        """What this very version of the file holds, if it is still here."""
        if (key, etag) not in self._tables:
            return None
        self._tables.move_to_end((key, etag))
        return self._tables[key, etag][0]

    def put(self, key: str, etag: str, content: SegmentTable) -> None:
        """Keep it instead of earlier versions, as long as there is room."""
        for old in [known for known in self._tables if known[0] == key]:
            del self._tables[old]
        self._tables[key, etag] = content, content.table.nbytes  # Arrow adds it up column by column: asked for once
        while len(self._tables) > SEGMENTS or sum(size for _, size in self._tables.values()) > self._max_bytes:
            self._tables.popitem(last=False)
