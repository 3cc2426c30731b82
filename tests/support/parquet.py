"""The enhanced layer of a lake without the processing before it: rows as dictionaries, segments as Parquet files."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.layout import Layout, sealed_segment, segment_of
from bikeflow.core.model import UTC, FileRecord, Partition, Segment, SegmentObject, SegmentWritten
from bikeflow.core.schema import ADDED, ENHANCED
from bikeflow.segments.footer import footer_metadata
from bikeflow.store import Store
from tests.support.wrm import wrm_day, wrm_layout

Row = dict[str, Any]
DAY = dt.date(2025, 6, 1)
PARTITION = wrm_day(DAY)


def at(hour: int, minute: int = 0, second: int = 0, *, day: dt.date = DAY) -> dt.datetime:
    """A UTC time."""
    return dt.datetime.combine(day, dt.time(hour, minute, second), UTC)


def row(station_id: str, snapshot: dt.datetime, **changes: object) -> Row:
    """A station's row as the snapshot of that time gives it; a bike's where the id begins with `fb`."""
    bike, naive = station_id.startswith("fb"), snapshot.replace(tzinfo=None)
    values: Row = {
        "station_id": station_id,
        "name": f"BIKE {station_id[2:]}" if bike else f"Stacja „{station_id}”, Wrocław",
        "timestamp": naive - dt.timedelta(seconds=5),
        "gmt_local_diff_sec": -7200,
        "gmt_servertime_diff_sec": -3600,
        "lat": 51.1,
        "lon": 17.03,
        "bikes": 1 if bike else 7,
        "spaces": 0 if bike else 8,
        "installed": True,
        "locked": False,
        "temporary": bike,
        "total_docks": 1 if bike else 15,
        "givesbonus_acceptspedelecs_fbbattlevel": False,
        "pedelecs": 0,
        "record_type": "bike" if bike else "station",
        "s3_source_key": wrm_layout("bike-data/gen_info/").raw_key(snapshot),
        "file_timestamp": naive,
        "date": snapshot.date(),
        "processed_at": naive,
        "battery_level": 55 if bike else None,
        "quality_flags": [],
        **dict.fromkeys(ADDED),
    }
    assert values.keys() >= changes.keys() and list(values) == ENHANCED.names
    return {**values, **changes}


def snapshot(time: dt.datetime, *ids: str, **changes: object) -> list[Row]:
    """All rows of one snapshot."""
    return [row(station_id, time, **changes) for station_id in ids]


def parquet(segment: Segment, rows: Sequence[Row], *, recipe: str = "these tests") -> bytes:
    """A Parquet file of the enhanced layer, sorted as the contract says, and with its footer."""
    ordered = sorted(rows, key=lambda item: (item["station_id"], item["timestamp"]))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, ENHANCED, compression="zstd", store_schema=False) as writer:
        writer.write_table(pa.Table.from_pylist(ordered, ENHANCED))
        writer.add_key_value_metadata(footer_metadata(segment, _records(ordered, recipe)))
    return sink.getvalue()


def _records(rows: Sequence[Row], recipe: str) -> Iterator[FileRecord]:
    """What a footer tells of the raw files that may have given these rows: none was rejected.

    As flags are not in a raw file, they do not show in its digest.
    """
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for item in rows:
        texts[item["s3_source_key"]].append(repr({**item, "quality_flags": None}))
    for key, lines in sorted(texts.items()):
        content = "\n".join(lines).encode()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        yield FileRecord(key, len(content), digest, len(lines), len(lines), 0, recipe)


class EnhancedLayer:
    """Segments in a store, and what a ledger would say of them."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self.store = store
        self.layout = layout
        self._segments: dict[Segment, tuple[SegmentObject, list[Row]]] = {}
        self.written: dict[Partition, list[SegmentWritten]] = {}
        """What a builder would have told of the segments that were put; whoever has used it clears it."""

    @property
    def wanted(self) -> list[SegmentObject]:
        """The current segments."""
        return [item for item, _ in self._segments.values()]

    @property
    def segments(self) -> list[Segment]:
        """Those that are there."""
        return list(self._segments)

    @property
    def rows(self) -> list[Row]:
        """All rows of the current segments."""
        return [row for _, rows in self._segments.values() for row in rows]

    async def put(self, segment: Segment, rows: Iterable[Row], *, data: bytes | None = None) -> SegmentObject:
        """Write a segment (as `data`, where its file is to be something else), or write it again."""
        rows = list(rows)
        info = await self.store.put(self.layout.segment_key("enhanced", segment), data or parquet(segment, rows))
        item = SegmentObject(segment, info.key, info.etag, info.size)
        former, known = self._segments.get(segment, (None, []))
        self._segments[segment] = item, rows
        told = SegmentWritten(segment, item, None if former is None else former.etag)
        added = [row for row in rows if row["s3_source_key"] not in {old["s3_source_key"] for old in known}]
        if data is None and all(old in rows for old in known) and len(known) + len(added) == len(rows):
            records = tuple(_records(sorted(added, key=lambda row: (row["station_id"], row["timestamp"])), "tests"))
            told = replace(told, added=pa.Table.from_pylist(added, ENHANCED), records=records)
        self.written.setdefault(segment.partition, []).append(told)
        return item

    async def put_hour(self, hour: int, *rows: Row, day: dt.date = DAY) -> SegmentObject:
        """Write the segment of one hour."""
        return await self.put(segment_of(wrm_day(day), at(hour, day=day), 60), rows)

    async def remove(self, segment: Segment) -> None:
        """Remove a segment."""
        item, _ = self._segments.pop(segment)
        await self.store.delete(item.key)

    async def seal(self, day: dt.date = DAY) -> SegmentObject:
        """Replace the segments of a day by one."""
        old = [segment for segment in self._segments if segment.partition == wrm_day(day)]
        rows = [row for segment in old for row in self._segments[segment][1]]
        sealed = await self.put(sealed_segment(wrm_day(day)), rows)
        for segment in old:
            if segment != sealed_segment(wrm_day(day)):
                item, _ = self._segments.pop(segment)
                if item.key != sealed.key:  # the last hour's file has the same name
                    await self.store.delete(item.key)
        return sealed
