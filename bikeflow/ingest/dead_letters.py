"""What the feed's server sent that was no feed document: kept in the lake to be looked at, but bounded."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING

from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.layout import Layout
from bikeflow.runtime.log import get_logger
from bikeflow.store.base import Store

if TYPE_CHECKING:
    from bikeflow.feeds.base import Answer, Format

MAX_PER_DAY = 100
MAX_BODY_BYTES = 64 * 1024
PATIENCE_SECONDS = 5.0
_log = get_logger()


class FeedDeadLetters:
    """Stores each body once as long as it repeats itself, and at most `MAX_PER_DAY` a day (UTC)."""

    def __init__(self, store: Store, layout: Layout, format_: Format) -> None:
        self._format = format_
        self._store = store
        self._layout = layout
        self._last_sha256 = ""
        self._day = ""
        self._stored_today = 0

    async def keep(self, answer: Answer, *, url: str, reason: str, at: dt.datetime) -> None:
        """Store what came; a store that doesn't take it is only logged, and doesn't hold up the fetcher."""
        body = answer.body or b""
        sha256 = hashlib.sha256(body).hexdigest()
        if sha256 == self._last_sha256:
            return
        letter = {
            "fetched_at": at.isoformat().replace("+00:00", "Z"),
            "url": url,
            "status": answer.status,
            "content_type": answer.content_type,
            "reason": reason,
            "size": len(body),
            "body": self._format.as_text(body[:MAX_BODY_BYTES], answer.charset),
            "sha256": sha256,
        }
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._store_once(self._layout.feed_dead_letter_key(at), json.dumps(letter, ensure_ascii=False))
        except (Transient, Permanent, TimeoutError) as error:
            _log.warning("feed_dead_letter_lost", error=str(error) or "the store takes too long")
        else:
            self._last_sha256 = sha256

    async def _store_once(self, key: str, letter: str) -> None:
        day = key.rpartition("/")[0] + "/"
        if day != self._day:  # what an earlier process stored today counts too
            self._stored_today = sum([len(page) async for page in self._store.pages(day)])
            self._day = day
        if self._stored_today < MAX_PER_DAY:
            await self._store.put(key, letter.encode())
            self._stored_today += 1
