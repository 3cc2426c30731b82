"""All Parquet files below a layer: which are ours, what they hold, and whether any lies where it should not."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow.core.layout import Layer, Layout, segment_of
from bikeflow.core.model import UTC, FileRecord, ObjectInfo, Partition, RawFile, SegmentObject
from bikeflow.core.schema import SCHEMAS, completed, is_enhanced
from bikeflow.feeds.recipe import is_recipe
from bikeflow.segments.footer import UNREADABLE, Footer, NotOurs, read_footer, read_provenance
from bikeflow.store.base import Store, if_found
from bikeflow.verifier.fingerprints import Fingerprint, Fingerprints, add, of_table
from bikeflow.verifier.report import Days, Report, concerns

Copies = Callable[[SegmentObject, bytes, Report], None]
"""Compares a segment's file with its copies."""
_ORDER = {"station_id": "", "timestamp": dt.datetime.min, "s3_source_key": ""}  # noqa: DTZ901
"""The columns that rows are sorted by, and what stands for a null in each."""


class LayerAudit:
    """Looks at the files of one layer; afterwards it knows what ours hold.

    `rows` and `records`, those of the footers, are by raw key. `complete` tells that no day was left out.
    """

    def __init__(
        self, store: Store, layout: Layout, layer: Layer, report: Report, copies: Copies | None = None
    ) -> None:
        self._store = store
        self._layout = layout
        self.name = layer
        self._report = report
        self._copies = copies
        self._files: defaultdict[Partition, dict[dt.time, tuple[Footer, dt.datetime]]] = defaultdict(dict)
        self.rows: Fingerprints = {}
        self.records: defaultdict[str, list[FileRecord]] = defaultdict(list)
        self.complete = True

    async def read(self, wanted: Days) -> None:
        """Look at all files that are wanted; a predecessor's are counted as foreign and else left out."""
        pages = self._store.pages(self._layout.layer(self.name))
        for info in [info async for page in pages for info in page if info.key.endswith(".parquet")]:
            if not concerns(wanted, info.key):
                self.complete = False
            elif self._layout.is_segment_key(self.name, info.key):
                await self._read_segment(info)
            else:
                await self._judge_stray(info)

    def should_name(self, raw: RawFile) -> bool:
        """Whether a file here, younger than the raw file, covers its time, and so must name it."""
        at = raw.time.time() if raw.time.date() == raw.partition.day else None
        return any(
            raw.last_modified < written and (segment.sealed or (at is not None and segment.start <= at <= segment.end))
            for footer, written in self._files[raw.partition].values()
            for segment in [footer.segment]
        )

    def compare_footers(self, other: LayerAudit) -> None:
        """The other layer's file of a segment tells the same of it as ours."""
        for partition, files in self._files.items():
            for end, (footer, _) in files.items():
                if other._files[partition].get(end, (footer,))[0] != footer:
                    key = self._layout.segment_key(self.name, footer.segment)
                    self._report.find("layers_differ", key, f"its footer is not that of the {other.name} layer's file")

    async def _read_segment(self, info: ObjectInfo) -> None:
        """A file that has the name of one of ours."""
        stored = await if_found(self._store.get(info.key))
        if stored is None:
            return
        try:
            footer = read_footer(stored.data, self._layout.system_id)
            if footer is None:
                self._report.foreign += 1
                return
            if self._layout.segment_key(self.name, footer.segment) != info.key:
                self._find_copy(info.key)
                return
            rows = await asyncio.to_thread(self._rows, info.key, stored.data, footer)
        except UNREADABLE as error:
            self._report.find("unreadable_parquet", info.key, str(error).partition("\n")[0])
            return
        add(self.rows, rows)
        for record in footer.files:
            self.records[record.key].append(record)
        self._files[footer.segment.partition][footer.segment.end] = (footer, stored.info.last_modified)
        if self._copies is not None:
            segment = SegmentObject(footer.segment, info.key, stored.info.etag, stored.info.size)
            await asyncio.to_thread(self._copies, segment, stored.data, self._report)

    async def _judge_stray(self, info: ObjectInfo) -> None:
        """A Parquet file that has another name or lies elsewhere: globs over the layer find it all the same."""
        footer = await if_found(read_provenance(self._store, info.key, self._layout.system_id))
        if footer is NotOurs.FOREIGN:
            self._report.foreign += 1
        elif footer is NotOurs.DAMAGED:
            self._report.find("unreadable_parquet", info.key, "no whole Parquet file: globs fail on it")
        elif footer is not None:
            self._find_copy(info.key)

    def _find_copy(self, key: str) -> None:
        self._report.find("misplaced_parquet", key, "a copy of a segment's file: globs count its rows twice")

    def _rows(self, key: str, data: bytes, footer: Footer) -> Fingerprints:
        """What a file holds; its schema, the order of its rows and its footer are as they should be."""
        for fault in _footer_faults(footer, self._layout):
            self._report.find("wrong_footer", key, fault)
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow.remove_metadata()
        if not (is_enhanced(schema) if self.name == "enhanced" else schema.equals(SCHEMAS[self.name])):
            self._report.find("wrong_parquet", key, f"its schema is not that of the {self.name} layer")
            keys = Counter(file.read(["s3_source_key"])["s3_source_key"].to_pylist())
            return {key: Fingerprint(rows, 0, 0, 0) for key, rows in keys.items()}
        table = completed(file.read()) if self.name == "enhanced" else file.read()
        rows = of_table(table, self.name)
        named = {record.key: record.rows for record in footer.files if record.rows}
        if {source: item.rows for source, item in rows.items()} != named:
            self._report.find("wrong_parquet", key, "its rows are not those that its footer names")
        if not _is_in_order(table):
            self._report.find("wrong_order", key, "its rows are not sorted by station_id, timestamp and raw file")
        return rows


def _footer_faults(footer: Footer, layout: Layout) -> Iterator[str]:
    """What a footer tells that can't be, whatever the lake holds."""
    segment, keys = footer.segment, [record.key for record in footer.files]
    start = dt.datetime.combine(segment.partition.day, segment.start, UTC)
    minutes = 60 * (segment.end.hour - segment.start.hour) + segment.end.minute - segment.start.minute + 1
    if minutes < 1 or 24 * 60 % minutes or segment_of(segment.partition, start, minutes) != segment:
        yield f"its footer names a segment from {segment.start} to {segment.end}: no day is cut like that"
        return
    if keys != sorted(set(keys)):
        yield "its footer names raw files twice, or not in order"
    for key in keys:
        time = layout.snapshot_time(key) or start  # without a time in its name it may belong anywhere in the day
        is_of_day = key.startswith(layout.raw_folder(segment.partition.day))
        if not is_of_day or segment_of(segment.partition, time, minutes) != segment:
            yield f"its footer names a raw file of another time, {key}"
            break
    if unknown := [record for record in footer.files if not is_recipe(record.recipe)]:
        yield f"its footer names impossible rules: {unknown[0].recipe[:40]!r} for {unknown[0].key}"


def _is_in_order(table: pa.Table) -> bool:
    """Whether rows are sorted as ours are, with none there twice."""
    equal = np.ones(max(table.num_rows - 1, 0), dtype=bool)
    for name, null in _ORDER.items():
        column = table[name].fill_null(null)
        before, after = column.slice(0, len(equal)), column.slice(1)
        if (equal & pc.less(after, before).to_numpy()).any():
            return False
        equal &= pc.equal(after, before).to_numpy()
    return not equal.any()
