"""What answers cost: equal requests share one look at the database, and bytes that are ready are only sent."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

from aiohttp import hdrs, web

from bikeflow.core.errors import Transient

MAX_WAITING = 16
RETRY_SECONDS = 1
Answer = TypeVar("Answer")


class Busy(Transient):
    """So much is being looked up already that this has to be asked for again."""

    def __init__(self) -> None:
        super().__init__("too many different requests at once", retry_after_seconds=RETRY_SECONDS)


class Lookups:
    """Looks things up in a thread of its own: a storm of requests must not take those that the pipeline works with.

    Who asks for what is being looked up already gets the same answer.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="http")
        self._thread.submit(int)  # the thread starts now, as later there may be none to be had
        self._waiting: dict[Hashable, asyncio.Future[object]] = {}

    async def get(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """What `work` gives, for all who ask for `key` meanwhile; raises `Busy`, and what `work` raises."""
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Busy
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
            self._waiting[key] = future
            future.add_done_callback(lambda _: self._waiting.pop(key))
        return cast(Answer, await asyncio.shield(future))

    def close(self) -> None:
        """Let go of the thread; a query under way is waited for."""
        self._thread.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Ready:
    """An answer as bytes; it is packed once."""

    body: bytes
    content_type: str

    @cached_property
    def packed(self) -> bytes:
        """The body in gzip."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)

    def to(self, request: web.Request, **headers: str) -> web.Response:
        """The answer to a request, packed where its client takes that."""
        packs = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
        told = {"Content-Type": self.content_type, "Vary": "Accept-Encoding", **headers}
        if packs:
            told["Content-Encoding"] = "gzip"
        return web.Response(body=self.packed if packs else self.body, headers=told)
