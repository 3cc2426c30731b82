"""One dirty segment, from its raw files to its Parquet files and dead letters in the store.

Every step is idempotent, and the ledger is told last: a crash anywhere leaves the segment dirty, and the next run writes
the same objects again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa

from bikeflow.concurrency import bounded_map
from bikeflow.errors import NotFound, Permanent, Transient
from bikeflow.feeds.text import decode
from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult, SegmentWork
from bikeflow.log import get_logger
from bikeflow.model import UTC, ObjectInfo, RawFile
from bikeflow.retry import retrying
from bikeflow.settings.sections import RetrySettings, RulesSettings
from bikeflow.store.base import Store
from bikeflow.store.cache import ObjectCache
from bikeflow.transform.parsing import ParsedFile, RawText, dead_letter_lines, parse_files
from bikeflow.transform.segment import FOOTER_READ_BYTES, build, read_footer

CONCURRENT_REQUESTS = 8
Answer = TypeVar("Answer")
log = get_logger()


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a segment came to; counts are of the raw files that were parsed in this run, `files` of all."""

    files: int
    parsed: int
    lines: int
    rows: int
    rejected: int


class ParsedFiles:
    """The rows of recently parsed raw files, so that an arrival costs the parsing of one file; least recently used go."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._files: OrderedDict[tuple[str, str], ParsedFile] = OrderedDict()

    def get(self, raw: RawFile) -> ParsedFile | None:
        """What this very version of the raw file gave, if it is still here."""
        identity = (raw.key, raw.etag)
        if identity not in self._files:
            return None
        self._files.move_to_end(identity)
        return self._files[identity]

    def add(self, parsed: ParsedFile) -> None:
        """Keep it, as long as there is room."""
        replaced = self._files.pop((parsed.raw.key, parsed.raw.etag), None)
        self._files[parsed.raw.key, parsed.raw.etag] = parsed
        self._bytes += parsed.table.nbytes - (replaced.table.nbytes if replaced else 0)
        while self._bytes > self._max_bytes and self._files:
            self._bytes -= self._files.popitem(last=False)[1].table.nbytes


class SegmentWriter:
    """Reads, parses, validates and writes segments, one at a time for each partition."""

    def __init__(  # noqa: PLR0913
        self,
        store: Store,
        cache: ObjectCache,
        layout: Layout,
        ledger: Ledger,
        rules: RulesSettings,
        retry: RetrySettings,
        memory: ParsedFiles,
    ) -> None:
        self._store = store
        self._cache = cache
        self._layout = layout
        self._ledger = ledger
        self._rules = rules
        self._retry = retry
        self._memory = memory

    async def write(self, work: SegmentWork) -> Written:
        """Bring the segment's files in the store up to date, then tell the ledger."""
        parsed = await self._parse(work)
        fresh = [item for item in parsed if item.raw.key in work.changed]
        await self._write_dead_letters(work, fresh)
        files = await asyncio.to_thread(build, work.segment, parsed) if parsed else None
        objects = await self._write_layers(work, files) if files else await self._remove_layers(work)
        results = [FileResult(p.raw.key, p.raw.etag, p.md5, p.lines, p.rows, p.rejected) for p in parsed]
        await asyncio.to_thread(self._ledger.files.segment_written, work, objects, results)
        return Written(
            files=len(parsed),
            parsed=len(fresh),
            lines=sum(item.lines for item in fresh),
            rows=sum(item.rows for item in fresh),
            rejected=sum(item.rejected for item in fresh),
        )

    async def _parse(self, work: SegmentWork) -> list[ParsedFile]:
        """All raw files of the segment, parsed: from memory where possible, the others in one batch."""
        known = {raw.key: parsed for raw in work.files if (parsed := self._memory.get(raw)) is not None}
        unknown = [raw for raw in work.files if raw.key not in known]
        texts = [text for text in await bounded_map(self._read, unknown, CONCURRENT_REQUESTS) if text is not None]
        for parsed in await asyncio.to_thread(parse_files, texts, self._rules) if texts else ():
            if parsed.unknown_columns:
                log.warning("schema_drifted", key=parsed.raw.key, unknown_columns=list(parsed.unknown_columns))
            known[parsed.raw.key] = parsed
            self._memory.add(parsed)
        return [known[raw.key] for raw in work.files if raw.key in known]

    async def _read(self, raw: RawFile) -> RawText | None:
        """A raw file's text; None where it has vanished in the meantime, which the ledger is told."""
        info = ObjectInfo(raw.key, raw.size, raw.etag, raw.last_modified)
        try:
            data = await self._try(self._cache.get, info)
        except NotFound:
            await asyncio.to_thread(self._ledger.files.forget, [raw.key])
            return None
        except Transient:
            await self._look_again(raw)
            raise
        return await asyncio.to_thread(_text, raw, data)

    async def _look_again(self, raw: RawFile) -> None:
        """It can't be read as it was listed: perhaps it was overwritten, then the next try is to read the new one."""
        current = self._layout.raw_file(await self._store.head(raw.key))
        if current is not None and current.etag != raw.etag:
            traces = await asyncio.to_thread(self._ledger.files.trace_id, raw.key)
            await asyncio.to_thread(self._ledger.files.observe, [(current, traces)])

    async def _write_dead_letters(self, work: SegmentWork, parsed: Sequence[ParsedFile]) -> None:
        now = dt.datetime.now(UTC)
        for item in parsed:
            key = self._layout.dead_letter_key(item.raw.key)
            if item.dead_letters:
                await self._try(self._store.put, key, dead_letter_lines(item.dead_letters, now))
            elif item.raw.key in work.rejected_before:
                await self._try(self._store.delete, key)

    async def _write_layers(self, work: SegmentWork, files: Mapping[Layer, bytes]) -> dict[Layer, ObjectInfo]:
        if not work.etags:
            for layer in LAYERS:
                await self._refuse_foreign(self._layout.segment_key(layer, work.segment))
        return {
            layer: await self._try(self._store.put, self._layout.segment_key(layer, work.segment), files[layer])
            for layer in LAYERS
        }

    async def _remove_layers(self, work: SegmentWork) -> dict[Layer, ObjectInfo]:
        """No row is left in the segment: its files go."""
        for layer in work.etags:
            await self._try(self._store.delete, self._layout.segment_key(layer, work.segment))
        return {}

    async def _refuse_foreign(self, key: str) -> None:
        """Before a segment is first written: a predecessor's file of the same name is not ours to replace."""
        try:
            found = await self._try(partial(self._store.get, last_bytes=FOOTER_READ_BYTES), key)
            footer = read_footer(found.data)
        except NotFound:
            return
        except (pa.ArrowInvalid, OSError):
            footer = None
        if footer is None:
            raise Permanent(f"{key} exists and is not bikeflow's: move it away, and this segment will be written")

    async def _try(self, call: Callable[..., Awaitable[Answer]], *arguments: object) -> Answer:
        return await retrying(self._retry)(call, *arguments)


def _text(raw: RawFile, data: bytes) -> RawText:
    return RawText(raw, hashlib.md5(data, usedforsecurity=False).hexdigest(), decode(data))
