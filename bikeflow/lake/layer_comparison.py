"""The Parquet side of a reconciliation: the layers' files as they lie in the store against what the ledger knows."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Mapping

from bikeflow.core.errors import NotFound
from bikeflow.core.layout import LAYERS, Layer, Layout
from bikeflow.core.model import ObjectInfo, RawFile, Segment
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.segments.footer import FileRecord, Footer
from bikeflow.segments.provenance import NotOurs, read_provenance
from bikeflow.store.base import Store

CONCURRENT_REQUESTS = 8


class LayerComparison:
    """One pass over both layers: adopts files that the ledger does not know, and has lost ones written again."""

    def __init__(self, store: Store, layout: Layout, ledger: Ledger) -> None:
        self._store = store
        self._layout = layout
        self._ledger = ledger
        self._found: dict[Segment, dict[Layer, tuple[ObjectInfo, Footer]]] = {}
        self._known: dict[Layer, dict[str, tuple[Segment, str]]] = {}
        self._lost: set[tuple[Segment, Layer]] = set()
        self._foreign: dict[str, str] = {}
        self._rebuilding = False

    async def run(self) -> tuple[int, int, int]:
        """Returns the numbers of segments found anew, segments lost, and Parquet files that are not ours."""
        self._rebuilding = await asyncio.to_thread(self._ledger.files.reconciled_at) is None
        foreign_before = await asyncio.to_thread(self._ledger.objects.foreign)
        for layer in LAYERS:
            await self._scan(layer, foreign_before)
        for segment, layer in self._lost:
            await asyncio.to_thread(self._ledger.objects.lost, segment, layer)
        for segment in self._found:
            if segment.sealed:
                await asyncio.to_thread(self._ledger.files.seal, segment.partition, idle=self._rebuilding)
        recorded = {layer: await asyncio.to_thread(self._ledger.objects.known, layer) for layer in LAYERS}
        for segment, layers in self._found.items():
            # What a processor has written and recorded while this pass was listing is newer than the listing.
            if all(recorded[layer].get(i.key) == self._known[layer].get(i.key) for layer, (i, _) in layers.items()):
                await self._adopt(segment, layers)
        await asyncio.to_thread(self._ledger.objects.set_foreign, self._foreign)
        return len(self._found), len({segment for segment, _ in self._lost}), len(self._foreign)

    async def _scan(self, layer: Layer, foreign_before: Mapping[str, str]) -> None:
        known = self._known[layer] = await asyncio.to_thread(self._ledger.objects.known, layer)
        listed: set[str] = set()
        async for page in self._store.pages(self._layout.layer(layer)):
            for info in page:
                listed.add(info.key)
                if foreign_before.get(info.key) == info.etag:
                    self._foreign[info.key] = info.etag
                elif info.key not in known or known[info.key][1] != info.etag:
                    await self._identify(layer, info)
        missing = [key for key in known.keys() - listed if await self._is_gone(key)]
        self._lost |= {(known[key][0], layer) for key in [*missing, *(known.keys() & self._foreign.keys())]}

    async def _identify(self, layer: Layer, info: ObjectInfo) -> None:
        footer = await self._footer(layer, info)
        if footer is None:
            self._foreign[info.key] = info.etag
        else:
            self._found.setdefault(footer.segment, {})[layer] = (info, footer)

    async def _is_gone(self, key: str) -> bool:
        try:
            await self._store.head(key)
        except NotFound:
            return True
        return False

    async def _footer(self, layer: Layer, info: ObjectInfo) -> Footer | None:
        """Whose file it is; None for one that is not ours, or that is no whole Parquet file."""
        if not self._layout.is_segment_key(layer, info.key):
            return None
        try:
            footer = await read_provenance(self._store, info.key)
        except NotFound:
            return None
        if isinstance(footer, NotOurs) or self._layout.segment_key(layer, footer.segment) != info.key:
            return None
        return footer

    async def _adopt(self, segment: Segment, layers: Mapping[Layer, tuple[ObjectInfo, Footer]]) -> None:
        objects = {layer: info for layer, (info, _) in layers.items()}
        footers = [footer for _, footer in layers.values()]
        results = [FileResult(r.key, "", r.md5, r.lines, r.rows, r.rejected) for r in footers[0].files]
        # Else there was a crash between the two layers, or a write that landed late: both are written again.
        if set(layers) == set(LAYERS) and len({footer.files for footer in footers}) == 1:
            files = await asyncio.to_thread(self._ledger.files.raw_files, [record.key for record in footers[0].files])
            written = min(info.last_modified for info in objects.values())
            results = await bounded_map(
                lambda record: self._result(record, files.get(record.key), written),
                footers[0].files,
                CONCURRENT_REQUESTS,
            )
        await asyncio.to_thread(self._ledger.objects.adopt, segment, objects, results)

    async def _result(self, record: FileRecord, raw: RawFile | None, written: dt.datetime) -> FileResult:
        """The footer's word on a raw file; its ETag is left empty where the raw file is another one by now."""
        same = raw is not None and raw.size == record.size and await self._is_same(record, raw, written)
        etag = raw.etag if raw is not None and same else ""
        return FileResult(record.key, etag, record.md5, record.lines, record.rows, record.rejected)

    async def _is_same(self, record: FileRecord, raw: RawFile, written: dt.datetime) -> bool:
        if raw.etag == record.md5:
            return True
        # Not every ETag is an MD5. To rebuild a ledger without reading the whole archive, a file is trusted, like make
        # does, that is older than what was made of it. A ledger that is no more than surprised can afford certainty:
        # a segment that lands late may be younger than a raw file that was overwritten since it was read.
        if self._rebuilding and raw.last_modified < written:
            return True
        try:
            stored = await self._store.get(raw.key)
        except NotFound:
            return False
        digest = await asyncio.to_thread(hashlib.md5, stored.data, usedforsecurity=False)
        return stored.info.etag == raw.etag and digest.hexdigest() == record.md5
