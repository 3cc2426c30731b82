"""What the feed's server sent that was no feed document: kept whole, within bounds, and filed once it can be read.

One object a document, `dlq/feed/dt=<day>/<time>.json`: what is known of it, how its text begins, and in `content` the
raw object that it would have become (for the WRM: the bytes as they came), packed by gzip, in Base64.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import gzip
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikeflow.core.errors import NotAFeed, NotFound, Permanent, Transient
from bikeflow.core.layout import Layout, day_of
from bikeflow.core.model import DocumentsDropped
from bikeflow.core.scope import Scope
from bikeflow.ingest.keys import next_free_second
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import FeedSettings
from bikeflow.store.base import Store, if_found

if TYPE_CHECKING:
    from bikeflow.feeds.base import Answer, Format

MAX_TEXT_BYTES = 4 * 1024
"""How much of a document's beginning stands as text in its object, for people."""
PATIENCE_SECONDS = 5.0
_SECOND = dt.timedelta(seconds=1)
_UNREADABLE = (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, binascii.Error)
_log = get_logger()


class FeedDeadLetters:
    """Keeps each body once as long as it repeats itself, up to `unusable_max_bytes`, for `unusable_days`.

    What is dropped is an error in the log, and `tell` counts it.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        format_: Format,
        settings: FeedSettings,
        tell: Callable[[DocumentsDropped], None],
    ) -> None:
        self._format = format_
        self._settings = settings
        self._tell = tell
        self._store = store
        self._layout = layout
        self._last_sha256 = ""
        self._looked_on = dt.date.min
        self._size = 0

    async def keep(self, answer: Answer, *, raw: bytes, url: str, reason: str, at: dt.datetime) -> None:
        """Store what came; a store that doesn't take it doesn't hold up the fetcher. `raw` as in `NotAFeed`."""
        body = answer.body or b""
        sha256 = hashlib.sha256(body).hexdigest()
        if sha256 == self._last_sha256:
            return
        letter = {
            "fetched_at": at.isoformat().replace("+00:00", "Z"),
            "url": url,
            "status": answer.status,
            "content_type": answer.content_type,
            "charset": answer.charset,
            "reason": reason,
            "size": len(body),
            "body": self._format.as_text(body[:MAX_TEXT_BYTES], answer.charset),
            "sha256": sha256,
        }
        try:
            content = await asyncio.to_thread(gzip.compress, raw or body, 9, mtime=0)
            letter["content"] = base64.b64encode(content).decode()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._store_once(at, json.dumps(letter, ensure_ascii=False).encode())
        except (Transient, Permanent, TimeoutError, MemoryError) as error:
            self._drop(1, at=letter["fetched_at"], size=len(body), error=str(error) or "the store takes too long")
        else:
            self._last_sha256 = sha256

    async def _store_once(self, at: dt.datetime, data: bytes) -> None:
        if at.date() != self._looked_on:
            await self._look(at.date())
        if self._size + len(data) > self._settings.unusable_max_bytes:
            raise Permanent(f"{self._size} bytes of unusable documents are kept (feed.unusable_max_bytes)")
        while await self._store.put_new(self._layout.feed_dead_letter_key(at), data) is None:
            at += _SECOND
        self._size += len(data)

    async def _look(self, today: dt.date) -> None:
        """How much is kept, by earlier processes too; what is too old goes."""
        infos = [info async for page in self._store.pages(self._layout.feed_dead_letters) for info in page]
        oldest = today - dt.timedelta(self._settings.unusable_days)
        expired = [info for info in infos if day_of(info.key) < oldest]
        for info in expired:
            await self._store.delete(info.key)
        if expired:
            self._drop(len(expired), last=expired[-1].key, error="kept for feed.unusable_days")
        self._size = sum(info.size for info in infos) - sum(info.size for info in expired)
        self._looked_on = today

    def _drop(self, count: int, **fields: object) -> None:
        _log.error("unusable_documents_dropped", count=count, **fields)
        self._tell(DocumentsDropped(self._layout.system_id, count))


@dataclass(frozen=True, slots=True)
class Filed:
    """How many unusable documents of which days were filed as raw files, and how many are still none."""

    days: frozenset[dt.date] = frozenset()
    documents: int = 0
    left: int = 0


async def count_unusable(store: Store, layout: Layout, scope: Scope) -> int:
    """The number of unusable documents that are kept of these days."""
    return len([key async for key in _unusable(store, layout, scope)])


async def file_usable(store: Store, layout: Layout, format_: Format, scope: Scope) -> Filed:
    """Make a raw file of each unusable document that the format understands now, at the time when it was fetched.

    It can be repeated: a document goes when its raw file is in the store.
    """
    days, documents, left = set[dt.date](), 0, 0
    async for key in _unusable(store, layout, scope):
        stored = await if_found(store.get(key))
        found = None if stored is None else await asyncio.to_thread(_usable, stored.data, format_)
        if found is None:
            left += stored is not None
            continue
        at, data = found
        while not await _file(store, layout.raw_key(at), data):
            at = await next_free_second(store, layout, at)
        await store.delete(key)
        _log.info("document_filed", key=layout.raw_key(at), document=key)
        days.add(at.date())
        documents += 1
    return Filed(frozenset(days), documents, left)


async def _unusable(store: Store, layout: Layout, scope: Scope) -> AsyncIterator[str]:
    async for page in store.pages(layout.feed_dead_letters):
        for info in page:
            if scope.has_day(day_of(info.key)):
                yield info.key


def _usable(data: bytes, format_: Format) -> tuple[dt.datetime, bytes] | None:
    """The time and the raw object of a document that was unusable; None where it still is, or was not kept whole."""
    try:
        letter: dict[str, Any] = json.loads(data)
        at = dt.datetime.fromisoformat(letter["fetched_at"]).replace(microsecond=0)
        return at, format_.reconsider(gzip.decompress(base64.b64decode(letter["content"])), letter.get("charset"))
    except (NotAFeed, *_UNREADABLE):
        return None


async def _file(store: Store, key: str, data: bytes) -> bool:
    """Store a raw file under this key unless another one has it."""
    try:
        return (await store.get(key)).data == data
    except NotFound:
        return await store.put_new(key, data) is not None
