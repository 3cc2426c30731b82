"""The ledger and the lake brought together: what the fast path can't see.

A full listing finds raw files that are late, out of order, overwritten or gone, and Parquet files and dead letters that
are missing or not ours. After the loss of the ledger the same pass rebuilds it from the footers of the Parquet files.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bikeflow.errors import NotFound
from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult
from bikeflow.log import get_logger
from bikeflow.model import UTC, ObjectInfo, RawFile, Segment
from bikeflow.provenance import NotOurs, read_provenance
from bikeflow.store.base import Store
from bikeflow.transform.footer import FileRecord, Footer

log = get_logger()


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a pass found: raw files in all, those new or changed, gone; objects that are not ours; segments adopted."""

    raw_files: int
    changed: int
    vanished: int
    foreign: int
    adopted: int
    lost: int
    duration_seconds: float


class Reconciler:
    """Makes the ledger agree with the whole lake; reads only what differs."""

    def __init__(self, store: Store, layout: Layout, ledger: Ledger, seal_after_minutes: float) -> None:
        self._store = store
        self._seal_after = dt.timedelta(minutes=seal_after_minutes)
        self._layout = layout
        self._ledger = ledger

    async def reconcile(self) -> Reconciliation:
        """One full pass; raises what the store raises, and is then to be repeated."""
        started = time.monotonic()
        before = await asyncio.to_thread(self._ledger.files.known_keys)
        files, changed, foreign = await self._list_raw()
        vanished = await self._vanished(before.keys() - files.keys())
        adopted, lost, foreign_parquet = await self._compare_layers(files)
        await self._compare_dead_letters()
        await asyncio.to_thread(self._ledger.files.set_reconciled, dt.datetime.now(UTC))
        result = Reconciliation(
            len(files),
            changed,
            vanished,
            foreign + foreign_parquet,
            adopted,
            lost,
            round(time.monotonic() - started, 3),
        )
        log.info(
            "reconciled",
            raw_files=result.raw_files,
            changed=changed,
            vanished=vanished,
            foreign=result.foreign,
            adopted=adopted,
            lost=lost,
            duration_seconds=result.duration_seconds,
        )
        return result

    async def seal_finished_days(self) -> list[dt.date]:
        """Days that are over, and whose late files had their time, become one segment each; returns those days."""
        today = (dt.datetime.now(UTC) - self._seal_after).date()
        days = await asyncio.to_thread(self._ledger.files.unsealed, today)
        for day in days:
            await asyncio.to_thread(self._ledger.files.seal, day)
        return days

    async def observe(self, infos: list[ObjectInfo]) -> list[RawFile]:
        """Enter listed objects in the ledger; returns the raw files that are new or changed."""
        files = [file for info in infos if (file := self._layout.raw_file(info)) is not None]
        return await asyncio.to_thread(self._ledger.files.observe, [(file, new_trace_id()) for file in files])

    async def _list_raw(self) -> tuple[dict[str, RawFile], int, int]:
        files: dict[str, RawFile] = {}
        listed = changed = 0
        async for page in self._store.pages(self._layout.raw):
            listed += len(page)
            files.update((file.key, file) for info in page if (file := self._layout.raw_file(info)) is not None)
            changed += len(await self.observe(page))
        return files, changed, listed - len(files)

    async def _vanished(self, missing: Collection[str]) -> int:
        """A listing alone never makes data disappear: each missing raw file is asked for by name."""
        gone = [key for key in sorted(missing) if not await self._exists(key)]
        if gone:
            log.warning("raw_files_vanished", count=len(gone), first=gone[0], last=gone[-1])
            await asyncio.to_thread(self._ledger.files.forget, gone)
        return len(gone)

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head(key)
        except NotFound:
            return False
        return True

    async def _compare_layers(self, files: Mapping[str, RawFile]) -> tuple[int, int, int]:
        """Adopt Parquet files that the ledger does not know, and have written again those that are gone."""
        foreign_before = await asyncio.to_thread(self._ledger.objects.foreign)
        found: dict[Segment, dict[Layer, tuple[ObjectInfo, Footer]]] = {}
        lost: set[Segment] = set()
        foreign: dict[str, str] = {}
        for layer in LAYERS:
            known = await asyncio.to_thread(self._ledger.objects.known, layer)
            listed: set[str] = set()
            async for page in self._store.pages(self._layout.layer(layer)):
                for info in page:
                    listed.add(info.key)
                    if foreign_before.get(info.key) == info.etag:
                        foreign[info.key] = info.etag
                    elif info.key not in known or known[info.key][1] != info.etag:
                        footer = await self._footer(layer, info)
                        if footer is None:
                            foreign[info.key] = info.etag
                        else:
                            found.setdefault(footer.segment, {})[layer] = (info, footer)
            lost |= {known[key][0] for key in known.keys() - listed if not await self._exists(key)}
            lost |= {known[key][0] for key in known.keys() & foreign.keys()}
        for segment in lost:
            await asyncio.to_thread(self._ledger.objects.lost, segment)
        # A processor may have written and recorded a segment while this pass was listing.
        recorded = {layer: await asyncio.to_thread(self._ledger.objects.known, layer) for layer in LAYERS}
        for segment in found:
            if segment.sealed:
                await asyncio.to_thread(self._ledger.files.seal, segment.partition)
        for segment, layers in found.items():
            if any(recorded[layer].get(info.key, ("", ""))[1] != info.etag for layer, (info, _) in layers.items()):
                await self._adopt(segment, layers, files)
        await asyncio.to_thread(self._ledger.objects.set_foreign, foreign)
        return len(found), len(lost), len(foreign)

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

    async def _compare_dead_letters(self) -> None:
        expected = await asyncio.to_thread(self._ledger.files.rejecting)
        known = await asyncio.to_thread(self._ledger.files.processed_keys)
        listed: set[str] = set()
        async for page in self._store.pages(self._layout.dead_letters):
            listed.update(self._layout.raw_key_of(info.key) for info in page)
        for key in sorted(listed & known - expected):
            await self._store.delete(self._layout.dead_letter_key(key))
        missing = sorted(expected - listed)
        if missing:
            log.warning("dead_letters_lost", count=len(missing), first=missing[0])
            await asyncio.to_thread(self._ledger.files.process_again, missing)


def new_trace_id() -> str:
    """What follows a snapshot through all logs: 16 hexadecimal digits."""
    return uuid.uuid4().hex[:16]


def _result(record: FileRecord, raw: RawFile | None, written: dt.datetime) -> FileResult:
    """The footer's word on a raw file; its ETag is left empty where the raw file is not the one that was processed.

    Not every ETag is an MD5: like make, it also trusts a file of the same size that is older than what was made of it.
    """
    same = raw is not None and raw.size == record.size and (raw.etag == record.md5 or raw.last_modified <= written)
    etag = raw.etag if raw is not None and same else ""
    return FileResult(record.key, etag, record.md5, record.lines, record.rows, record.rejected)
