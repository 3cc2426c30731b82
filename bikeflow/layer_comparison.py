"""The Parquet side of a reconciliation: the layers' files as they lie in the store against what the ledger knows."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping

from bikeflow.errors import NotFound
from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult
from bikeflow.model import ObjectInfo, RawFile, Segment
from bikeflow.provenance import NotOurs, read_provenance
from bikeflow.store.base import Store
from bikeflow.transform.footer import FileRecord, Footer


class LayerComparison:
    """One pass over both layers: adopts files that the ledger does not know, and has lost ones written again."""

    def __init__(self, store: Store, layout: Layout, ledger: Ledger) -> None:
        self._store = store
        self._layout = layout
        self._ledger = ledger
        self._found: dict[Segment, dict[Layer, tuple[ObjectInfo, Footer]]] = {}
        self._lost: set[Segment] = set()
        self._foreign: dict[str, str] = {}

    async def run(self, files: Mapping[str, RawFile]) -> tuple[int, int, int]:
        """Returns the numbers of segments found anew, segments lost, and Parquet files that are not ours."""
        foreign_before = await asyncio.to_thread(self._ledger.objects.foreign)
        for layer in LAYERS:
            await self._scan(layer, foreign_before)
        for segment in self._lost:
            await asyncio.to_thread(self._ledger.objects.lost, segment)
        # A processor may have written and recorded a segment while this pass was listing.
        recorded = {layer: await asyncio.to_thread(self._ledger.objects.known, layer) for layer in LAYERS}
        for segment in self._found:
            if segment.sealed:
                await asyncio.to_thread(self._ledger.files.seal, segment.partition)
        for segment, layers in self._found.items():
            if any(recorded[layer].get(info.key, ("", ""))[1] != info.etag for layer, (info, _) in layers.items()):
                await self._adopt(segment, layers, files)
        await asyncio.to_thread(self._ledger.objects.set_foreign, self._foreign)
        return len(self._found), len(self._lost), len(self._foreign)

    async def _scan(self, layer: Layer, foreign_before: Mapping[str, str]) -> None:
        known = await asyncio.to_thread(self._ledger.objects.known, layer)
        listed: set[str] = set()
        async for page in self._store.pages(self._layout.layer(layer)):
            for info in page:
                listed.add(info.key)
                if foreign_before.get(info.key) == info.etag:
                    self._foreign[info.key] = info.etag
                elif info.key not in known or known[info.key][1] != info.etag:
                    await self._identify(layer, info)
        missing = [key for key in known.keys() - listed if await self._is_gone(key)]
        self._lost |= {known[key][0] for key in [*missing, *(known.keys() & self._foreign.keys())]}

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

    async def _adopt(
        self, segment: Segment, layers: Mapping[Layer, tuple[ObjectInfo, Footer]], files: Mapping[str, RawFile]
    ) -> None:
        objects = {layer: info for layer, (info, _) in layers.items()}
        footers = [footer for _, footer in layers.values()]
        if len({footer.files for footer in footers}) != 1:
            # A crash between the two layers: both are written again.
            await asyncio.to_thread(self._ledger.objects.adopt, segment, {}, [])
            return
        written = min(info.last_modified for info in objects.values())
        results = [_result(record, files.get(record.key), written) for record in footers[0].files]
        await asyncio.to_thread(self._ledger.objects.adopt, segment, objects, results)


def _result(record: FileRecord, raw: RawFile | None, written: dt.datetime) -> FileResult:
    """The footer's word on a raw file; its ETag is left empty where the raw file is not the one that was processed.

    Not every ETag is an MD5: like make, it also trusts a file of the same size that is older than what was made of it.
    """
    same = raw is not None and raw.size == record.size and (raw.etag == record.md5 or raw.last_modified <= written)
    etag = raw.etag if raw is not None and same else ""
    return FileResult(record.key, etag, record.md5, record.lines, record.rows, record.rejected)
