"""The ledger and the lake brought together: what the fast path can't see.

A full listing finds raw files that are late, out of order, overwritten or gone, and Parquet files and dead letters that
are missing or not ours. After the loss of the ledger the same pass rebuilds it from the footers of the Parquet files.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict

from bikeflow.core.layout import LAYERS, Layer, Layout
from bikeflow.core.model import UTC, FileRecord, LakeReconciled, ObjectInfo, Partition, RawFile, Segment
from bikeflow.feeds.base import Format
from bikeflow.lake.missing import judge_missing
from bikeflow.ledger import SystemIndex
from bikeflow.ledger.files import FileResult
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.runtime.log import get_logger, new_trace_id
from bikeflow.segments.footer import Footer, read_provenance
from bikeflow.store.base import CONCURRENT_REQUESTS, Store, if_found

RESEAL_QUIET = dt.timedelta(minutes=10)
FILES_AT_ONCE = 32
"""How many raw files are read at once, where their content is needed."""
Pages = Callable[[str], AsyncIterator[list[ObjectInfo]]]
"""Lists what lies below a prefix, page by page (`Store.pages`)."""
log = get_logger()


class Reconciler:
    """Makes the ledger agree with the whole lake of one system; reads only what differs.

    `trace_id` knows those of snapshots that are just being stored by this process; all others get a new one.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        index: SystemIndex,
        raw_format: Format,
        seal_after_minutes: float,
        *,
        trace_id: Callable[[str], str | None] = lambda key: None,
        tell: Callable[[LakeReconciled], None] = lambda event: None,
    ) -> None:
        self._trace_id = trace_id
        self._tell = tell
        self._store = store
        self._seal_after = dt.timedelta(minutes=seal_after_minutes)
        self._layout = layout
        self._index = index
        self._format = raw_format
        self.missing = index.missing.summary()
        """The raw files that are missing from the store and held, or None."""

    async def reconcile(self, pages: Pages | None = None) -> LakeReconciled:
        """One full pass; raises what the store raises, and is then to be repeated. `pages` lists like the store's."""
        started, pages = time.monotonic(), pages or self._store.pages
        before = await asyncio.to_thread(self._index.files.known_keys)
        keys, changed, foreign = await self._list_raw(pages)
        comparison = _LayerComparison(self._store, self._layout, self._index, self._format, pages)
        await comparison.scan()
        vanished = await self._vanished((before.keys() | comparison.named) - keys)
        adopted, lost, foreign_parquet = await comparison.settle()
        await self._compare_dead_letters(pages)
        await asyncio.to_thread(self._index.files.set_reconciled, dt.datetime.now(UTC))
        await self.look_for_missing()
        result = LakeReconciled(
            system_id=self._layout.system_id,
            raw_files=len(keys),
            changed=changed,
            vanished=vanished,
            foreign=foreign + foreign_parquet,
            adopted=adopted,
            lost=lost,
            duration_seconds=round(time.monotonic() - started, 3),
        )
        self._tell(result)
        fields = asdict(result)
        log.info("reconciled", system=fields.pop("system_id"), **fields)
        return result

    async def look_for_missing(self) -> None:
        """Take note of what is held: also another process may forget it."""
        found, before = await asyncio.to_thread(self._index.missing.summary), self.missing
        if before is not None and found is None:
            log.info("raw_files_complete", count=before.count, first=before.first, last=before.last)
        self.missing = found

    async def seal_finished_days(self, quiet: dt.timedelta = RESEAL_QUIET, *, idle: bool = False) -> list[Partition]:
        """Days that are over, and whose late files had their time, become one segment each; returns those partitions.

        A sealed day is sealed again when late files came to it, and then none for a time of `quiet`.
        `idle` promises that no processor is at work.
        """
        now = dt.datetime.now(UTC)
        days = await asyncio.to_thread(self._index.files.days_to_seal, (now - self._seal_after).date(), now - quiet)
        for day in days:
            await asyncio.to_thread(self._index.files.seal, day, idle=idle)
        return days

    async def observe(self, infos: list[ObjectInfo]) -> list[RawFile]:
        """Enter listed objects in the ledger; returns the raw files that are new or changed."""
        _, changed = await asyncio.to_thread(self._enter, infos)
        return changed

    def _enter(self, infos: list[ObjectInfo]) -> tuple[list[str], list[RawFile]]:
        """The keys of all that are raw files, and those that are new or changed."""
        files = [file for info in infos if (file := self._layout.raw_file(info)) is not None]
        traced = [(file, self._trace_id(file.key) or new_trace_id()) for file in files]
        return [file.key for file in files], self._index.files.observe(traced)

    async def _list_raw(self, pages: Pages) -> tuple[set[str], int, int]:
        keys: set[str] = set()
        listed = changed = 0
        async for page in pages(self._layout.raw):
            found, news = await asyncio.to_thread(self._enter, page)
            keys.update(found)
            listed, changed = listed + len(page), changed + len(news)
        return keys, changed, listed - len(keys)

    async def _vanished(self, missing: AbstractSet[str]) -> int:
        """A listing alone never makes data disappear: each missing raw file is asked for by name."""
        asked = sorted(missing - await asyncio.to_thread(self._index.missing.held))
        found = await bounded_map(lambda key: if_found(self._store.head(key)), asked, CONCURRENT_REQUESTS)
        gone = [key for key, info in zip(asked, found, strict=True) if info is None]
        return await asyncio.to_thread(judge_missing, self._index, gone)

    async def _compare_dead_letters(self, pages: Pages) -> None:
        before = await asyncio.to_thread(self._index.files.processed)
        listed: set[str] = set()
        async for page in pages(self._layout.dead_letters):
            listed.update(self._layout.raw_key_of(info.key) for info in page)
        await asyncio.to_thread(self._index.files.letters_found, listed)
        # A processor may have written dead letters during the listing: those must not look like old ones.
        after = await asyncio.to_thread(self._index.files.processed)
        unwanted = {key for key in listed if not before.get(key, True) and not after.get(key, True)}
        orphans = listed - (await asyncio.to_thread(self._index.files.known_keys)).keys()
        await self._vanished(orphans)
        held = await asyncio.to_thread(self._index.missing.held)
        orphaned = {key for key in orphans - held if await if_found(self._store.head(key)) is None}
        for key in sorted(unwanted | orphaned):
            await self._store.delete(self._layout.dead_letter_key(key))
        missing = sorted(key for key, has_letters in before.items() if has_letters and key not in listed | held)
        if missing:
            log.warning("dead_letters_lost", count=len(missing), first=missing[0])
            await asyncio.to_thread(self._index.files.process_again, missing)


class _LayerComparison:
    """One pass over the Parquet files: adopts those that the ledger does not know, and has lost ones written again."""

    def __init__(self, store: Store, layout: Layout, index: SystemIndex, raw_format: Format, pages: Pages) -> None:
        self._store = store
        self._pages = pages
        self._layout = layout
        self._index = index
        self._format = raw_format
        self._found: dict[Segment, dict[Layer, tuple[ObjectInfo, Footer]]] = {}
        self._known: dict[Layer, dict[str, tuple[Segment, str]]] = {}
        self._lost: set[tuple[Segment, Layer]] = set()
        self._foreign: dict[str, str] = {}
        self._held: frozenset[str] = frozenset()
        self._rebuilding = False

    @property
    def named(self) -> set[str]:
        """The raw files that the footers of what is new name."""
        return {record.key for _, footer in self._footers() for record in footer.files}

    async def scan(self) -> None:
        """List both layers, and read the footers of what is new."""
        self._rebuilding = await asyncio.to_thread(self._index.files.reconciled_at) is None
        foreign_before = await asyncio.to_thread(self._index.foreign_objects)
        for layer in LAYERS:
            await self._scan(layer, foreign_before)

    async def settle(self) -> tuple[int, int, int]:
        """Returns how many segments were adopted, how many were lost, and how many Parquet files are not ours."""
        await self._hold()
        # What nothing but a copy on this machine holds any more stays in the database.
        kept = await asyncio.to_thread(self._index.missing.segments) if self._held and self._lost else ()
        self._lost = {(segment, layer) for segment, layer in self._lost if segment not in kept}
        for segment, layer in self._lost:
            await asyncio.to_thread(self._index.lost, segment, layer)
        for segment in self._found:
            if segment.sealed:
                await asyncio.to_thread(self._index.files.seal, segment.partition, idle=self._rebuilding)
        recorded = {layer: await asyncio.to_thread(self._index.known_objects, layer) for layer in LAYERS}
        for segment, layers in self._found.items():
            # What a processor has written and recorded while this pass was listing is newer than the listing.
            if all(recorded[layer].get(i.key) == self._known[layer].get(i.key) for layer, (i, _) in layers.items()):
                await self._adopt(segment, layers)
        await asyncio.to_thread(self._index.set_foreign_objects, self._foreign)
        return len(self._found), len({segment for segment, _ in self._lost}), len(self._foreign)

    def _footers(self) -> Iterator[tuple[Segment, Footer]]:
        """The footers that were read, those of sealed segments first."""
        for segment, layers in sorted(self._found.items(), key=lambda item: not item[0].sealed):
            for _, footer in layers.values():
                yield segment, footer

    async def _hold(self) -> None:
        """Missing raw files that are held, and of which the ledger knows nothing: the footers do."""
        held = self._held = await asyncio.to_thread(self._index.missing.held)
        for segment, footer in self._footers() if held else ():
            records = [record for record in footer.files if record.key in held]
            await asyncio.to_thread(self._index.missing.hold, segment, records)

    async def _scan(self, layer: Layer, foreign_before: Mapping[str, str]) -> None:
        known = self._known[layer] = await asyncio.to_thread(self._index.known_objects, layer)
        listed: set[str] = set()
        async for page in self._pages(self._layout.layer(layer)):
            for info in page:
                listed.add(info.key)
                if foreign_before.get(info.key) == info.etag:
                    self._foreign[info.key] = info.etag
                elif info.key not in known or known[info.key][1] != info.etag:
                    await self._identify(layer, info)
        missing = [key for key in known.keys() - listed if await if_found(self._store.head(key)) is None]
        self._lost |= {(known[key][0], layer) for key in [*missing, *(known.keys() & self._foreign.keys())]}

    async def _identify(self, layer: Layer, info: ObjectInfo) -> None:
        footer = await self._footer(layer, info)
        if footer is None:
            self._foreign[info.key] = info.etag
        else:
            self._found.setdefault(footer.segment, {})[layer] = (info, footer)

    async def _footer(self, layer: Layer, info: ObjectInfo) -> Footer | None:
        """The footer of a file of ours; None for any other, and for one that is no whole Parquet file."""
        if not self._layout.is_segment_key(layer, info.key):
            return None
        footer = await if_found(read_provenance(self._store, info.key, self._layout.system_id))
        if isinstance(footer, Footer) and self._layout.segment_key(layer, footer.segment) == info.key:
            return footer
        return None

    async def _adopt(self, segment: Segment, layers: Mapping[Layer, tuple[ObjectInfo, Footer]]) -> None:
        objects = {layer: info for layer, (info, _) in layers.items()}
        footers = [footer for _, footer in layers.values()]
        results = [FileResult(record, "", letters=record.rejected > 0) for record in footers[0].files]
        # Else there was a crash between the two layers, or a write that landed late: both are written again.
        if set(layers) == set(LAYERS) and len({footer.files for footer in footers}) == 1:
            written = min(info.last_modified for info in objects.values())
            results = []
            for start in range(0, len(footers[0].files), FILES_AT_ONCE):
                results += await self._results(footers[0].files[start : start + FILES_AT_ONCE], written)
        await asyncio.to_thread(self._index.adopt, segment, objects, results)

    async def _results(self, records: Sequence[FileRecord], written: dt.datetime) -> list[FileResult]:
        """The footer's word on raw files, with their ETags where they are still those that were processed, else empty.

        In a local lake only the content is trusted, as `cp -p` gives a copied file an old modification time.
        """
        files = await asyncio.to_thread(self._index.files.raw_files, [record.key for record in records])
        listed = {record.key: record for record in records if _may_be(record, files.get(record.key))}
        asked = [
            key for key, record in listed.items() if key not in self._held and not _told_by_etag(record, files[key])
        ]
        contents = await self._store.read_local(asked)

        async def judge(record: FileRecord) -> FileResult:
            key, letters = record.key, record.rejected > 0
            if key in self._held and key in files:
                return FileResult(record, files[key].etag, letters)  # only the footer knows
            if key not in listed:
                return FileResult(record, "", letters)
            raw, stored = files[key], contents.get(key)
            trusted = record.lines and stored is None and self._is_trusted(raw, written)
            if _told_by_etag(record, raw) or trusted:
                return FileResult(record, raw.etag, letters)
            stored = stored or await if_found(self._store.get(key))
            if stored is None:
                return FileResult(record, "", letters)
            digest = hashlib.md5(stored.data, usedforsecurity=False).hexdigest()
            same = stored.info.etag == raw.etag and digest == record.md5
            return FileResult(record, raw.etag if same else "", letters or not self._is_readable(stored.data))

        return await bounded_map(judge, records, CONCURRENT_REQUESTS)

    def _is_trusted(self, raw: RawFile, written: dt.datetime) -> bool:
        """Whether an object elsewhere, whose ETag is no MD5, is believed without being read.

        To rebuild a ledger without downloading the archive, one is that is older than what was made of it, by the
        server's own clock. A ledger that is no more than surprised can afford certainty: a segment that lands late may
        be younger than a raw file that was overwritten since it was read.
        """
        return self._rebuilding and raw.last_modified < written

    def _is_readable(self, data: bytes) -> bool:
        return self._format.count_records(data).readable


def _may_be(record: FileRecord, raw: RawFile | None) -> bool:
    """Whether a record may tell of the raw file as it is now; one that was tampered with tells nothing."""
    conserved = record.lines == record.rows + record.rejected and min(record.size, record.rows, record.rejected) >= 0
    return raw is not None and raw.size == record.size and conserved


def _told_by_etag(record: FileRecord, raw: RawFile) -> bool:
    """Whether the ETag proves that the raw file is the one that was processed; one without lines must be read."""
    return raw.etag == record.md5 and record.lines > 0
