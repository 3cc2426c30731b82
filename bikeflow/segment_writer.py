"""One dirty segment, from its raw files to its Parquet files and dead letters in the store.

Raw files that did not change are not read again: their rows come from the segment as it was last written, in memory or
in the store. So an arrival costs the parsing of one file, and a day is sealed or cut anew without its raw files. Every
step is idempotent, and the ledger is told last: a crash anywhere leaves the segment dirty, and the next run writes the
same objects again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from bikeflow.concurrency import bounded_map
from bikeflow.errors import NotFound, Permanent, Transient
from bikeflow.feeds.text import decode as decode_text
from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult, SegmentWork
from bikeflow.log import get_logger
from bikeflow.memory import give_back
from bikeflow.model import UTC, ObjectInfo, RawFile, SchemaDrifted, SegmentObject
from bikeflow.provenance import NotOurs, read_provenance
from bikeflow.retry import retrying
from bikeflow.settings.sections import RetrySettings, RulesSettings
from bikeflow.store.base import Store
from bikeflow.store.cache import ObjectCache
from bikeflow.transform.parsing import ParsedFile, RawText, dead_letter_lines, parse_files
from bikeflow.transform.segment import SegmentTable, collect, read, write
from bikeflow.transform.tally import Tally, tally

CONCURRENT_REQUESTS = 8
PARSED_AT_ONCE = 40
MEMORY_BYTES = 64 * 1024 * 1024
"""Room for the rows of the open segments; an hour of 30-second snapshots takes about 12 MB."""

Answer = TypeVar("Answer")
log = get_logger()


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a segment came to; the counts are of the raw files that were parsed in this run."""

    files: int
    lines: int
    rows: int
    rejected: int
    tally: Tally


class SegmentMemory:
    """The rows of recently written segments, by key and ETag of their enhanced file; least recently used go."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tables: OrderedDict[tuple[str, str], SegmentTable] = OrderedDict()

    def get(self, key: str, etag: str) -> SegmentTable | None:
        """What this very version of the file holds, if it is still here."""
        if (key, etag) in self._tables:
            self._tables.move_to_end((key, etag))
        return self._tables.get((key, etag))

    def put(self, key: str, etag: str, content: SegmentTable) -> None:
        """Keep it instead of earlier versions, as long as there is room."""
        for old in [known for known in self._tables if known[0] == key]:
            del self._tables[old]
        self._tables[key, etag] = content
        while sum(item.table.nbytes for item in self._tables.values()) > self._max_bytes:
            self._tables.popitem(last=False)


class SegmentWriter:
    """Reads, parses, validates and writes segments; one instance serves all processors."""

    def __init__(
        self,
        store: Store,
        cache: ObjectCache,
        layout: Layout,
        ledger: Ledger,
        rules: RulesSettings,
        retry: RetrySettings,
        tell: Callable[[SchemaDrifted], None] = lambda event: None,
    ) -> None:
        self._tell = tell
        self._store = store
        self._cache = cache
        self._layout = layout
        self._ledger = ledger
        self._rules = rules
        self._retry = retry
        self._memory = SegmentMemory()
        self._hurry = asyncio.Event()
        self._drifted: set[str] = set()
        self.files_parsed = 0
        """Raw files parsed by this process, for progress."""

    def hurry(self) -> None:
        """From now on try nothing again: what fails is left to the next run."""
        self._hurry.set()

    async def write(self, work: SegmentWork) -> Written:
        """Bring the segment's files in the store up to date, then tell the ledger."""
        old = await self._bases(work)
        covered = {record.key for base in old for record in base.files} - work.changed
        fresh, counts = await self._parse(work, [raw for raw in work.files if raw.key not in covered])
        parsed = [record for base in fresh for record in base.files]
        present = (covered & {raw.key for raw in work.files}) | {record.key for record in parsed}
        written = await asyncio.to_thread(write, work.segment, present, [*fresh, *old])
        objects = await self._write_layers(work, written.data)
        if "enhanced" in objects and written.content is not None:
            self._memory.put(objects["enhanced"].key, objects["enhanced"].etag, written.content)
        etags = {raw.key: raw.etag for raw in work.files}
        results = [FileResult(f.key, etags[f.key], f.md5, f.lines, f.rows, f.rejected) for f in written.files]
        await asyncio.to_thread(self._ledger.files.segment_written, work, objects, results)
        await asyncio.to_thread(give_back)
        return Written(
            files=len(parsed),
            lines=sum(item.lines for item in parsed),
            rows=sum(item.rows for item in parsed),
            rejected=sum(item.rejected for item in parsed),
            tally=counts,
        )

    async def _bases(self, work: SegmentWork) -> list[SegmentTable]:
        """The segments in which the rows of unchanged raw files lie; one that can't be read is left out."""
        found = await bounded_map(self._base, work.bases, CONCURRENT_REQUESTS)
        return [base for base in found if base is not None]

    async def _base(self, source: SegmentObject) -> SegmentTable | None:
        remembered = self._memory.get(source.key, source.etag)
        if remembered is not None:
            return remembered
        try:
            found = await self._try(self._store.get, source.key)
            content = await asyncio.to_thread(read, found.data)
        except (NotFound, pa.ArrowInvalid, OSError) as error:
            log.warning("segment_unreadable", key=source.key, error=str(error))
            return None
        return content if found.info.etag == source.etag else None

    async def _parse(self, work: SegmentWork, files: Sequence[RawFile]) -> tuple[list[SegmentTable], Tally]:
        """Read and parse raw files, so many at once that memory stays bounded, and store their dead letters."""
        counts = Tally()

        async def parse(some: Sequence[RawFile]) -> SegmentTable:
            contents = [item for item in await bounded_map(self._read, some, CONCURRENT_REQUESTS) if item is not None]
            parsed, table, flagged = await asyncio.to_thread(_parsed, contents, self._rules)
            await self._write_dead_letters(work, parsed)
            self._report_drift(parsed)
            counts.add(flagged)
            self.files_parsed += len(parsed)
            return table

        batches = [files[start : start + PARSED_AT_ONCE] for start in range(0, len(files), PARSED_AT_ONCE)]
        # One batch is parsed while the next is read: Arrow lets go of the interpreter.
        return await bounded_map(parse, batches, 2), counts

    async def _read(self, raw: RawFile) -> tuple[RawFile, bytes] | None:
        """A raw file's content; None where it has vanished in the meantime, which the ledger is told."""
        info = ObjectInfo(raw.key, raw.size, raw.etag, raw.last_modified)
        try:
            return raw, await self._try(self._cache.get, info)
        except NotFound:
            await asyncio.to_thread(self._ledger.files.forget, [raw.key])
            return None
        except Transient:
            await self._look_again(raw)
            raise

    async def _look_again(self, raw: RawFile) -> None:
        """It can't be read as it was listed: perhaps it was overwritten, then the next run is to read the new one."""
        current = self._layout.raw_file(await self._store.head(raw.key))
        if current is not None and current.etag != raw.etag:
            trace_id = await asyncio.to_thread(self._ledger.files.trace_id, raw.key)
            await asyncio.to_thread(self._ledger.files.observe, [(current, trace_id)])

    def _report_drift(self, parsed: Iterable[ParsedFile]) -> None:
        """Unknown columns are logged once, not with every snapshot."""
        for item in parsed:
            if item.unknown_columns:
                self._tell(SchemaDrifted(tuple(sorted(item.unknown_columns))))
            new = set(item.unknown_columns) - self._drifted
            if new:
                self._drifted |= new
                log.warning("schema_drifted", key=item.raw.key, unknown_columns=", ".join(sorted(new)))

    async def _write_dead_letters(self, work: SegmentWork, parsed: Sequence[ParsedFile]) -> None:
        now = dt.datetime.now(UTC)
        for item in parsed:
            key = self._layout.dead_letter_key(item.raw.key)
            if item.raw.key in work.rejected_before - work.changed:
                continue  # it is only read again for its rows: its dead letters are there, or were dropped
            if item.dead_letters:
                await self._try(self._store.put, key, dead_letter_lines(item.dead_letters, now))
            elif item.raw.key in work.rejected_before:
                await self._try(self._store.delete, key)

    async def _write_layers(self, work: SegmentWork, files: Mapping[Layer, bytes]) -> dict[Layer, ObjectInfo]:
        """Put both files in the store; where no row is left, the segment's files go."""
        keys = {layer: self._layout.segment_key(layer, work.segment) for layer in LAYERS}
        if not files:
            for layer in work.etags:
                await self._try(self._store.delete, keys[layer])
            return {}
        for layer in keys.keys() - work.etags.keys():
            await self._refuse_foreign(keys[layer])
        return {layer: await self._try(self._store.put, key, files[layer]) for layer, key in keys.items()}

    async def _refuse_foreign(self, key: str) -> None:
        """Where no file of ours is known: a predecessor's of the same name is not ours to replace."""
        try:
            found = await self._try(read_provenance, self._store, key)
        except NotFound:
            return
        if found is NotOurs.FOREIGN:
            raise Permanent(f"{key} exists and is not bikeflow's: move it away, and this segment will be written")
        if found is NotOurs.DAMAGED:
            log.warning("damaged_file_replaced", key=key)

    async def _try(self, call: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
        return await retrying(self._retry, self._hurry)(call, *arguments)


def _parsed(
    contents: Sequence[tuple[RawFile, bytes]], rules: RulesSettings
) -> tuple[list[ParsedFile], SegmentTable, Tally]:
    """All that takes time in a batch of raw files: what each gave, their rows together, and what was odd in them."""
    texts = [
        RawText(raw, hashlib.md5(data, usedforsecurity=False).hexdigest(), decode_text(data)) for raw, data in contents
    ]
    parsed = parse_files(texts, rules)
    return parsed, collect(parsed), tally(parsed)
