"""One dirty segment, from its raw files to its Parquet files and dead letters in the store; no ledger is involved.

Raw files that did not change are not read again: their rows come from the segment as it was last written, in memory or
in the store. So an arrival costs the parsing of one file, and sealing a day, or cutting it in other segments, reads no
raw file. Every step is idempotent: keys and contents follow from the work alone, so it can be done anywhere, and twice.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from bikeflow.core.errors import NotFound, Permanent, Transient
from bikeflow.core.layout import LAYERS, Layer
from bikeflow.core.model import UTC, FileRecord, ObjectInfo, RawFile, SegmentObject, SegmentWritten
from bikeflow.core.schema import ENHANCED
from bikeflow.feeds import format_of, layout_of
from bikeflow.feeds.base import ParsedFile, RawContent
from bikeflow.ledger.files import FileResult, SegmentWork
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.memory import give_back
from bikeflow.runtime.retry import retrying
from bikeflow.segments.dead_letters import dead_letter_lines
from bikeflow.segments.footer import UNREADABLE, NotOurs, read_provenance
from bikeflow.segments.memory import SegmentMemory
from bikeflow.segments.parsing import parse_within_memory
from bikeflow.segments.table import SegmentTable, collect, read, write
from bikeflow.segments.tally import Tally, tally
from bikeflow.settings.sections import RetrySettings
from bikeflow.settings.systems import System
from bikeflow.store.base import CONCURRENT_REQUESTS, Store, if_found
from bikeflow.store.cache import ObjectCache

FEW_FILES = 16
"""Rows of so many raw files are handed on to the warehouse; those of more are read from the file."""
PARSED_BYTES = 16 * 1024 * 1024
"""How much is parsed at once: enough that the cost of calling numpy is small, and little enough for memory."""

Answer = TypeVar("Answer")
log = get_logger()


@dataclass(frozen=True, slots=True)
class Built:
    """What building a segment gave.

    `objects` are the segment's files as they now lie in the store (none: it holds no row); None where it may wait, and
    nothing was written there. `results` are what every raw file of the segment gave. `parsed` are the raw files that
    were parsed in this run, `tally` counts theirs; `vanished` are those that no longer exist. `written` and `data` (the
    content of the enhanced file) are used on this machine only (see `without_rows`).
    """

    written: SegmentWritten
    data: bytes | None
    objects: Mapping[Layer, ObjectInfo] | None
    results: tuple[FileResult, ...]
    parsed: tuple[FileRecord, ...]
    vanished: tuple[str, ...]
    tally: Tally

    def without_rows(self) -> Built:
        """A copy without what is too large to be sent from another process: the rows will be read from the file."""
        return replace(self, written=replace(self.written, added=None, records=()), data=None)


class RawFileChanged(Transient):
    """A raw file is another one than was listed: `current` is what the next run is to read."""

    def __init__(self, message: str, current: RawFile | None = None) -> None:
        super().__init__(message)
        self.current = current


class RawFilesVanished(Transient):
    """Raw files whose rows lie in the lake are gone from the store: the next reconciliation judges them."""


class SegmentBuilder:
    """Reads, parses, validates and writes segments; one instance serves all processors.

    `copies` tells where this machine may have a copy of an enhanced file.
    """

    def __init__(
        self,
        store: Store,
        cache: ObjectCache,
        systems: Iterable[System],
        retry: RetrySettings,
        copies: Callable[[SegmentObject], Path] | None = None,
    ) -> None:
        self._store = store
        self._copies = copies
        self._cache = cache
        self._systems = {system.id: system for system in systems}
        self._retry = retry
        self._memory = SegmentMemory()
        self._hurry = asyncio.Event()

    def fail_fast(self) -> None:
        """From now on try nothing again: what fails is left to the next run."""
        self._hurry.set()

    async def build(self, work: SegmentWork, parsed: Callable[[int], None] = lambda files: None) -> Built:
        """Bring the segment's files and dead letters in the store up to date; `parsed` takes numbers of raw files done.

        Raises what the store raises, RawFileChanged and RawFilesVanished.
        """
        old = await self._bases(work)
        known = {record.key for base in old for record in base.files}
        _refuse_loss(work, known)
        covered = known - (work.changed - work.held)
        wanted = [raw for raw in work.files if raw.key not in covered | work.held]
        fresh, counts = await self._parse(work, wanted, parsed)
        records = tuple(record for table in fresh for record in table.files)
        listed, read_again = {raw.key for raw in work.files}, {record.key for record in records}
        vanished = tuple(sorted({raw.key for raw in wanted} - read_again))
        if derived := work.derived & set(vanished):
            raise RawFilesVanished(f"{len(derived)} raw files have vanished from the store, {min(derived)} the first")
        if len(fresh) > 1:
            await asyncio.to_thread(give_back)  # what parsing leaves free is in pieces too small for what comes now
        layers: Sequence[Layer] = ("enhanced",) if work.may_wait else LAYERS
        files = await asyncio.to_thread(write, work.segment, covered & listed | read_again, [*fresh, *old], layers)
        waits = work.may_wait and bool(files.data)
        objects = None if waits else await self._write_layers(work, files.data)
        enhanced = self._unwritten(work, files.data["enhanced"]) if objects is None else objects.get("enhanced")
        if enhanced is not None and files.content is not None:
            self._memory.put(enhanced.key, enhanced.etag, files.content)
        # what is missing and had changed is read when it returns
        etags = {raw.key: raw.etag if raw.key not in work.held & work.changed else "" for raw in work.files}
        lettered = (work.lettered - {raw.key for raw in wanted}) | counts.lettered
        unchanged = not work.changed & known and covered <= listed and len(old) == len(work.bases)
        return Built(
            written=_written(work, enhanced, fresh if unchanged and len(wanted) <= FEW_FILES else None),
            data=files.data.get("enhanced"),
            objects=objects,
            results=tuple(FileResult(record, etags[record.key], record.key in lettered) for record in files.files),
            parsed=records,
            vanished=vanished,
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
            data = await asyncio.to_thread(self._copy, source)
            if data is None:
                found = await self._try(self._store.get, source.key)
                data = found.data if found.info.etag == source.etag else None
            return None if data is None else await asyncio.to_thread(read, data, source.partition.system_id)
        except (NotFound, *UNREADABLE) as error:
            data = await asyncio.to_thread(self._last_copy, source) if isinstance(error, NotFound) else None
            if data is not None:
                return await asyncio.to_thread(read, data, source.partition.system_id)
            log.warning("segment_unreadable", key=source.key, error=str(error))
            return None

    def _last_copy(self, source: SegmentObject) -> bytes | None:
        """This machine's copy of a file that is gone from the store: told by its name and size."""
        try:
            data = b"" if self._copies is None else self._copies(source).read_bytes()
        except OSError:
            return None
        return data if len(data) == source.size else None

    def _copy(self, source: SegmentObject) -> bytes | None:
        """This machine's copy of a file, if it has one whose content is told by the ETag."""
        try:
            data = b"" if self._copies is None else self._copies(source).read_bytes()
        except OSError:
            return None
        return data if hashlib.md5(data, usedforsecurity=False).hexdigest() == source.etag else None

    async def _parse(
        self, work: SegmentWork, files: Sequence[RawFile], tell: Callable[[int], None]
    ) -> tuple[list[SegmentTable], Tally]:
        """Read and parse raw files, so many at once that memory stays bounded, and store their dead letters."""
        system, counts = self._system(work), Tally()

        def parse_all(contents: Sequence[tuple[RawFile, bytes]]) -> tuple[list[ParsedFile], SegmentTable, Tally]:
            raw = [
                RawContent(file, hashlib.md5(data, usedforsecurity=False).hexdigest(), data) for file, data in contents
            ]
            parsed = parse_within_memory(format_of(system), raw, system.rules)
            return parsed, collect(parsed), tally(parsed)

        async def parse(some: Sequence[RawFile]) -> SegmentTable:
            parsed, table, odd = await asyncio.to_thread(parse_all, await self._contents(some))
            await self._write_dead_letters(work, parsed)
            tell(len(parsed))
            counts.add(odd)
            return table

        # Two at a time: Arrow and numpy let go of the interpreter.
        return await bounded_map(parse, batches(files, PARSED_BYTES), 2), counts

    async def _contents(self, files: Sequence[RawFile]) -> list[tuple[RawFile, bytes]]:
        """What these raw files hold, but those that have vanished in the meantime."""
        found = await self._cache.read_local([_info(raw) for raw in files])
        missing = [raw for raw in files if raw.key not in found]
        read = await bounded_map(self._read, missing, CONCURRENT_REQUESTS)
        found.update((raw.key, data) for raw, data in zip(missing, read, strict=True) if data is not None)
        return [(raw, found[raw.key]) for raw in files if raw.key in found]

    async def _read(self, raw: RawFile) -> bytes | None:
        """A raw file's content; None where it has vanished in the meantime."""
        try:
            return await self._try(self._cache.get, _info(raw))
        except NotFound:
            return None
        except Transient as error:
            # It can't be read as it was listed: perhaps it was overwritten, then the next run is to read the new one.
            layout = layout_of(self._systems[raw.partition.system_id])
            current = layout.raw_file(await self._store.head(raw.key))
            if current is None or current.etag == raw.etag:
                raise
            raise RawFileChanged(str(error), current) from error

    async def _write_dead_letters(self, work: SegmentWork, parsed: Sequence[ParsedFile]) -> None:
        now, layout = dt.datetime.now(UTC), layout_of(self._system(work))
        for item in parsed:
            key = layout.dead_letter_key(item.raw.key)
            if item.raw.key in work.lettered - work.changed:
                continue  # it is only read again for its rows: its dead letters are there, or were dropped
            if item.dead_letters:
                await self._try(self._store.put, key, dead_letter_lines(item.dead_letters, now))
            elif item.raw.key in work.lettered:
                await self._try(self._store.delete, key)

    async def _write_layers(self, work: SegmentWork, files: Mapping[Layer, bytes]) -> dict[Layer, ObjectInfo]:
        """Put both files in the store; where no row is left, the segment's files go."""
        layout = layout_of(self._system(work))
        keys = {layer: layout.segment_key(layer, work.segment) for layer in LAYERS}
        if not files:
            for layer in work.etags:
                await self._try(self._store.delete, keys[layer])
            return {}
        for layer in keys.keys() - work.etags.keys():
            await self._refuse_foreign(keys[layer], layout.system_id)
        return {layer: await self._try(self._store.put, key, files[layer]) for layer, key in keys.items()}

    def _unwritten(self, work: SegmentWork, data: bytes) -> ObjectInfo:
        """The enhanced file as it would lie in the store, where one is told from another by its MD5."""
        key = layout_of(self._system(work)).segment_key("enhanced", work.segment)
        return ObjectInfo(key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), dt.datetime.now(UTC))

    async def _refuse_foreign(self, key: str, system_id: str) -> None:
        """Where no file of ours is known: a predecessor's of the same name is not ours to replace."""
        found = await if_found(self._try(read_provenance, self._store, key, system_id))
        if found is NotOurs.FOREIGN:
            raise Permanent(f"{key} exists and is not bikeflow's: move it away, and this segment will be written")
        if found is NotOurs.DAMAGED:
            log.warning("damaged_file_replaced", key=key)

    def _system(self, work: SegmentWork) -> System:
        return self._systems[work.segment.partition.system_id]

    async def _try(self, call: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
        return await retrying(self._retry, self._hurry)(call, *arguments)


def _refuse_loss(work: SegmentWork, known: Collection[str]) -> None:
    """Where the rows of missing raw files can't be read, what is left of the segment is not replaced."""
    lost = work.held - set(known)
    if lost and work.etags:
        raise Permanent(
            f"the rows of {len(lost)} raw files can't be read, and the files are missing from the store, {min(lost)}"
            " the first: bring them back, or `bikeflow forget` them"
        )


def _info(raw: RawFile) -> ObjectInfo:
    return ObjectInfo(raw.key, raw.size, raw.etag, raw.last_modified)


def batches(files: Iterable[RawFile], max_bytes: int, max_files: int = sys.maxsize) -> Iterator[list[RawFile]]:
    """The files in parts of at most `max_files` and `max_bytes`; a larger file is a part of its own."""
    batch: list[RawFile] = []
    size = 0
    for raw in files:
        if batch and (len(batch) == max_files or size + raw.size > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += raw.size
    if batch:
        yield batch


def _written(work: SegmentWork, info: ObjectInfo | None, fresh: Sequence[SegmentTable] | None) -> SegmentWritten:
    """What the warehouse gets: the rows of `fresh` were added to the former file, or (None) other rows changed too."""
    if info is None:
        return SegmentWritten(work.segment, None)
    former = work.published
    written = SegmentWritten(work.segment, SegmentObject(work.segment, info.key, info.etag, info.size), former)
    # The rows of unchanged raw files must come from the segment's own former file, and from nowhere else.
    if fresh is None or [(base.segment, base.etag) for base in work.bases] != (
        [(work.segment, former)] if former else []
    ):
        return written
    rows = pa.concat_tables([ENHANCED.empty_table(), *(part.table.cast(ENHANCED) for part in fresh)])
    return replace(written, added=rows, records=tuple(record for part in fresh for record in part.files))
