"""All Parquet files below a layer: which are ours, what they hold, and whether any lies where it should not."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from bikeflow.errors import NotFound
from bikeflow.layout import Layer, Layout
from bikeflow.model import ObjectInfo, RawFile, Segment, SegmentObject, StoredObject
from bikeflow.provenance import NotOurs, read_provenance
from bikeflow.store.base import Store
from bikeflow.transform.footer import FileRecord, Footer
from bikeflow.verifier.fingerprints import Fingerprints, merged
from bikeflow.verifier.report import Days, Report, concerns, partition_of
from bikeflow.verifier.segments import look_at

UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
"""What reading a damaged file may raise."""


@dataclass(slots=True)
class LayerContent:
    """What our files in a layer hold, by raw key; `footers` has a digest of each file's footer, by its key."""

    rows: Fingerprints = field(default_factory=dict)
    records: defaultdict[str, list[FileRecord]] = field(default_factory=lambda: defaultdict(list))
    footers: dict[str, str] = field(default_factory=dict)
    spans: defaultdict[dt.date, list[tuple[Segment, dt.datetime]]] = field(default_factory=lambda: defaultdict(list))
    complete: bool = True
    """Whether no day was left out."""

    def add(self, key: str, stored: StoredObject, footer: Footer, rows: Fingerprints) -> None:
        """Take over what a file holds."""
        merged(self.rows, rows)
        for record in footer.files:
            self.records[record.key].append(record)
        self.footers[key] = hashlib.sha256(repr(footer).encode()).hexdigest()
        self.spans[footer.segment.partition].append((footer.segment, stored.info.last_modified))

    def should_name(self, raw: RawFile) -> bool:
        """Whether a file here, younger than the raw file, covers its time, and so must name it."""
        at = raw.time.time() if raw.time.date() == raw.partition else None
        return any(
            raw.last_modified < written and (segment.sealed or (at is not None and segment.start <= at <= segment.end))
            for segment, written in self.spans[raw.partition]
        )


Copies = Callable[[SegmentObject, bytes, Report], None]
"""Compares a segment's file with its copies."""


async def read_layer(
    store: Store, layout: Layout, layer: Layer, wanted: Days, report: Report, copies: Copies | None
) -> LayerContent:
    """Look at all files of a layer that are wanted; a predecessor's are counted as foreign and else left out."""
    content = LayerContent()
    infos = [info async for page in store.pages(layout.layer(layer)) for info in page if info.key.endswith(".parquet")]
    for info in infos:
        if not concerns(wanted, info.key):
            content.complete = False
        elif layout.is_segment_key(layer, info.key):
            await _read_segment(store, layout, layer, info, content, report, copies)
        else:
            await _judge_stray(store, info, report)
    return content


async def _read_segment(
    store: Store,
    layout: Layout,
    layer: Layer,
    info: ObjectInfo,
    content: LayerContent,
    report: Report,
    copies: Copies | None,
) -> None:
    """A file that has the name of one of ours."""
    try:
        stored = await store.get(info.key)
        found = await asyncio.to_thread(look_at, stored.data, layer)
    except NotFound:
        return
    except UNREADABLE as error:
        report.find("unreadable_parquet", info.key, str(error).partition("\n")[0])
        return
    if found is None:
        report.foreign += 1
        return
    if layout.segment_key(layer, found.footer.segment) != info.key:
        report.find("misplaced_parquet", info.key, "a copy of another segment's file: globs count its rows twice")
        return
    for kind, message in found.faults:
        report.find(kind, info.key, message)
    content.add(info.key, stored, found.footer, found.rows)
    if copies is not None:
        segment = SegmentObject(info.key, partition_of(info.key), stored.info.etag, stored.info.size)
        await asyncio.to_thread(copies, segment, stored.data, report)


async def _judge_stray(store: Store, info: ObjectInfo, report: Report) -> None:
    """A Parquet file that has another name or lies elsewhere: globs over the layer find it all the same."""
    try:
        footer = await read_provenance(store, info.key)
    except NotFound:
        return
    except UNREADABLE:
        footer = NotOurs.DAMAGED
    if footer is NotOurs.FOREIGN:
        report.foreign += 1
    elif footer is NotOurs.DAMAGED:
        report.find("unreadable_parquet", info.key, "no whole Parquet file: globs fail on it")
    else:
        report.find("misplaced_parquet", info.key, "a copy of a segment's file: globs count its rows twice")


def compare_footers(layout: Layout, found: dict[Layer, LayerContent], report: Report) -> None:
    """Both layers' files of a segment tell the same of it."""
    below = {layer: layout.layer(layer) for layer in found}
    other = {
        key.removeprefix(below["processed"]).replace("all_processed_", "all_enhanced_"): digest
        for key, digest in found["processed"].footers.items()
    }
    for key, digest in found["enhanced"].footers.items():
        if other.get(key.removeprefix(below["enhanced"]), digest) != digest:
            report.find("layers_differ", key, "its footer is not that of the processed layer's file")
