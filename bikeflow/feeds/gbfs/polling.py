"""One system's documents, poll by poll: each with its own conditional request and its own `ttl`."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bikeflow.core.errors import NotAFeed, Permanent, Transient
from bikeflow.core.model import UTC
from bikeflow.feeds.base import Ask
from bikeflow.feeds.gbfs.container import Document, pack
from bikeflow.feeds.gbfs.documents import (
    ARRAYS,
    DISCOVERY,
    INFORMATION,
    LONGEST_TTL_SECONDS,
    STATIONS,
    SYSTEM,
    TYPES,
    VEHICLES,
    NoArray,
    NotJson,
    array_of,
    listed_documents,
    read_json,
    ttl_seconds,
)
from bikeflow.runtime.log import get_logger
from bikeflow.settings.systems import public_url

PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0
MAX_RECORDS = 100_000
_log = get_logger()


@dataclass(slots=True)
class _Held:
    """A document as it was last fetched, and when the next request for it is due (on the monotonic clock).

    Its content is held packed, as that of a thousand systems would fill the memory.
    """

    name: str
    url: str
    packed: bytes | None = None
    digest: bytes = b""
    about: dict[str, Any] = field(default_factory=dict)
    checked_at: str = ""
    ttl_seconds: float = 0.0
    due_at: float = 0.0
    failures: int = 0
    error: Transient | Permanent | None = None

    @property
    def validators(self) -> tuple[str, str]:
        """ETag and Last-Modified of what is held."""
        return self.about.get("etag", ""), self.about.get("last_modified", "")

    @property
    def body(self) -> bytes | None:
        """Its content, or None where nothing is held."""
        return None if self.packed is None else zlib.decompress(self.packed)

    def hold(self, body: bytes) -> bool:
        """Hold this content from now on; gives whether it is another one than before."""
        digest = hashlib.sha256(body).digest()
        changed = self.packed is None or digest != self.digest
        if changed:
            self.packed, self.digest = zlib.compress(body, 1), digest
        return changed

    def forget(self) -> None:
        """Hold nothing: what it said before is not known to be so now."""
        self.packed, self.about, self.checked_at = None, {}, ""

    def document(self) -> Document:
        """As it goes into a snapshot."""
        error = None if self.error is None else str(self.error)
        return Document(self.name, self.url, self.body, checked_at=self.checked_at, error=error, **self.about)


class Poller:
    """Fetches the documents of one system; between polls it holds them, so that unchanged ones need not come again.

    A status whose `ttl` ends within `patience_seconds` is waited for (any other document for a second at most): polls
    come at a steady beat, requests a little after it, and without waiting every second one would come just too early.
    A `ttl` counts for `max_ttl_seconds` at most. A document with more than `max_records` records is not taken.
    """

    def __init__(
        self,
        patience_seconds: float,
        max_ttl_seconds: float = LONGEST_TTL_SECONDS,
        *,
        max_records: int = MAX_RECORDS,
        log_failures: bool = True,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._max_ttl_seconds = max_ttl_seconds
        self._max_records = max_records
        self._log_failures = log_failures
        self._discovery = _Held(DISCOVERY, "")
        self._held: dict[str, _Held] = {}
        self._changed = False
        """Whether anything has changed since the last snapshot was given."""

    async def poll(self, url: str, ask: Ask, *, whole: bool = False) -> bytes | None:
        """The raw object of a snapshot, or None where no document has changed since the last one.

        A `whole` one is given even then.
        Raises `NotAFeed` where `gbfs.json` or the status can't be used, and what `ask` raises for these.
        """
        try:
            return await self._poll(url, ask, whole=whole)
        except NotAFeed as error:
            documents = [_rejected(one, error) for one in (self._discovery, *self._held.values())]
            error.raw = await asyncio.to_thread(pack, documents)
            raise

    async def _poll(self, url: str, ask: Ask, *, whole: bool) -> bytes | None:
        await self._discover(url, ask)
        states = [self._held[name] for name in (STATIONS, *VEHICLES) if name in self._held]
        await asyncio.gather(*(self._refresh(one, ask, needed=one is states[0]) for one in states))
        failure = states[0].error
        if failure is not None and not isinstance(failure, NotAFeed):
            raise failure
        others = [self._held[name] for name in (SYSTEM, INFORMATION, TYPES) if name in self._held]
        await asyncio.gather(*(self._refresh(one, ask) for one in others))
        if failure is not None:  # with all that belongs to it, it can become a snapshot later
            raise failure
        if not self._changed and not whole:
            return None
        self._changed = False
        held = [self._discovery, *self._held.values()]
        return await asyncio.to_thread(lambda: pack(one.document() for one in held))

    async def _discover(self, url: str, ask: Ask) -> None:
        """Find out where the documents are."""
        if self._discovery.url != url:
            self._discovery, self._held = _Held(DISCOVERY, url), {}
        before = self._discovery.packed
        await self._refresh(self._discovery, ask, needed=not self._held)
        if self._discovery.error is not None and not self._held:
            raise self._discovery.error
        if self._discovery.packed is not None and self._discovery.packed is not before:
            self._held = self._located(await asyncio.to_thread(_listed, self._discovery))

    def _located(self, listed: Mapping[str, str]) -> dict[str, _Held]:
        """The documents that a snapshot needs, at their addresses; those that have not moved stay held."""
        return {
            name: held if (held := self._held.get(name)) and held.url == listed[name] else _Held(name, listed[name])
            for name in (SYSTEM, INFORMATION, TYPES, *_states(listed))
            if name in listed
        }

    async def _refresh(self, held: _Held, ask: Ask, *, needed: bool = False) -> None:
        """Ask for a document if it is due, or will be soon. A failure is noted in `error`.

        One that is `needed` is asked for again within the poll, and at the next one.
        """
        wait_seconds = held.due_at - time.monotonic()
        patience_seconds = self._patience_seconds if needed else min(self._patience_seconds, 1.0)
        if wait_seconds > (patience_seconds if held.error is None else 0.0):
            return
        await asyncio.sleep(max(wait_seconds, 0.0))
        try:
            await self._ask_for(held, ask, needed=needed)
        except (Transient, Permanent) as error:
            self._note_failure(held, error, needed=needed)
            return
        if held.failures:
            _log.info("document_recovered", document=held.name, failures=held.failures)
        held.failures, held.error = 0, None

    async def _ask_for(self, held: _Held, ask: Ask, *, needed: bool) -> None:
        answer = await ask(held.url, held.validators, retry=needed)
        checked_at = dt.datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if answer.body is None:
            held.checked_at, held.due_at = checked_at, answer.asked_at + held.ttl_seconds
            return
        document = await asyncio.to_thread(_read, held, answer.body, self._max_records, needed=needed)
        held.ttl_seconds = min(ttl_seconds(document), self._max_ttl_seconds)
        held.due_at = answer.asked_at + held.ttl_seconds
        if await asyncio.to_thread(held.hold, answer.body):
            self._changed = True
        held.checked_at = checked_at
        held.about = {
            "fetched_at": checked_at,
            "status": answer.status,
            "content_type": answer.content_type,
            "etag": answer.etag,
            "last_modified": answer.last_modified,
        }

    def _note_failure(self, held: _Held, error: Transient | Permanent, *, needed: bool) -> None:
        if held.failures == 0 and not needed and self._log_failures:  # the fetcher tells of what is needed
            _log.warning("document_unavailable", document=held.name, url=public_url(held.url), error=str(error))
        if held.failures == 0 and isinstance(error, Permanent) and held is not self._discovery:
            self._discovery.due_at = 0.0  # it may have moved
        held.failures += 1
        error.__cause__ = None  # an error keeps the frames that it has passed, and with them the document
        held.error = error.with_traceback(None)
        if needed:
            return
        pause = min(PAUSE_SECONDS * 2 ** min(held.failures - 1, 10), LONGEST_PAUSE_SECONDS)
        held.due_at = time.monotonic() + pause
        if held.name in VEHICLES and held.packed is not None:
            held.forget()
            self._changed = True


def _listed(discovery: _Held) -> Mapping[str, str]:
    """What an auto-discovery document that was read before lists."""
    return listed_documents(read_json(discovery.body or b""), discovery.url)


def check_status(documents: Mapping[str, bytes]) -> None:
    """Raise `NotJson` or `NoArray` where a snapshot of these documents has no usable status."""
    names = _states(documents)
    if not names:
        raise NoArray("there is none")
    array_of(names[0], read_json(documents[names[0]]))


def _rejected(held: _Held, error: NotAFeed) -> Document:
    """A document as it goes into a snapshot, if it were no reason to reject it."""
    document = held.document()
    return replace(document, body=error.body, error=None) if held.error is error else document


def _states(listed: Iterable[str]) -> list[str]:
    """The documents that tell the state of stations and vehicles; of vehicles, the newer one where both are listed."""
    names = set(listed)
    return [name for name in (STATIONS, next((one for one in VEHICLES if one in names), "")) if name in names]


def _read(held: _Held, body: bytes, max_records: int, *, needed: bool) -> Any:
    """The JSON of a document, None where it is none.

    Raises `NotAFeed` where it has too many records, or is `needed` or the auto-discovery document and can't be used.
    """
    try:
        document = read_json(body)
        if held.name == DISCOVERY and not _states(listed_documents(document, held.url)):
            raise NoArray(f"it lists neither {STATIONS} nor {' nor '.join(VEHICLES)}")
        records = array_of(held.name, document) if held.name in ARRAYS else ()
    except (NotJson, NoArray) as error:
        if needed or held.name == DISCOVERY:
            raise NotAFeed(f"{held.name} can't be used: {error}", body=body) from error
        return None
    if len(records) > max_records:
        raise NotAFeed(
            f"{held.name} has {len(records):,} records, more than {max_records:,} (feed.max_records)", body=body
        )
    return document
