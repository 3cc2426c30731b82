"""Rows stay in memory for the segments that are being added to, and for no others."""

from __future__ import annotations

import pyarrow as pa

from bikeflow.core.schema import ENCODED
from bikeflow.segments.memory import SEGMENTS, SegmentMemory
from bikeflow.segments.table import SegmentTable

NOTHING = SegmentTable(ENCODED.empty_table(), ())


def content(rows: int) -> SegmentTable:
    """Some rows, 8 bytes each."""
    return SegmentTable(pa.table({"lat": [0.5] * rows}), ())


def test_a_new_version_takes_the_place_of_the_former() -> None:
    memory = SegmentMemory()
    memory.put("a", "1", NOTHING)
    memory.put("a", "2", NOTHING)
    assert memory.get("a", "1") is None
    assert memory.get("a", "2") is NOTHING


def test_the_segments_used_last_stay() -> None:
    memory = SegmentMemory()
    keys = [f"segment {number}" for number in range(SEGMENTS + 1)]
    for key in keys[:-1]:
        memory.put(key, "1", NOTHING)
    assert memory.get(keys[0], "1") is NOTHING
    memory.put(keys[-1], "1", NOTHING)
    assert [key for key in keys if memory.get(key, "1") is None] == [keys[1]]


def test_there_is_an_end_to_their_size() -> None:
    memory = SegmentMemory(max_bytes=100)
    memory.put("a", "1", content(10))
    memory.put("b", "1", content(5))
    assert memory.get("a", "1") is None
    assert memory.get("b", "1") is not None
