"""The fetcher: asks the feed at every tick and hands what is new to the delivery."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bikeflow.core.errors import NotAFeed, Permanent, Transient
from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, DocumentsDropped, FetchFinished, FetchOutcome, FetchState
from bikeflow.feeds import format_of
from bikeflow.ingest.breaker import CircuitOpen
from bikeflow.ingest.clock import MOST_DOCUMENTS, ClockWatch
from bikeflow.ingest.dead_letters import FeedDeadLetters
from bikeflow.ingest.delivery import Delivery
from bikeflow.ingest.journal import Journal
from bikeflow.ingest.spool import NotSpooled
from bikeflow.ingest.upstream import Upstream
from bikeflow.ledger import SystemIndex
from bikeflow.polls import Recorder
from bikeflow.runtime.log import bound, get_logger, new_trace_id
from bikeflow.runtime.retry import tick
from bikeflow.settings.systems import System, public_url
from bikeflow.store import Store

if TYPE_CHECKING:
    from bikeflow.feeds.base import Answer

GRACE_SECONDS = 5.0
"""How long a fetch that is under way at the stop may still take."""
WHOLE_SECONDS = 3600.0
"""A document that has not come whole for so long is asked for without conditions."""
_SECOND = dt.timedelta(seconds=1)
_NUDGE = dt.timedelta(minutes=1)
_log = get_logger()


def utc_now() -> dt.datetime:
    """The time now, in UTC."""
    return dt.datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Turn:
    """When a system is fetched, in seconds after the start: for the first time, and from when on at every interval.

    Systems that take turns within their interval do not come all at once.
    """

    first_seconds: float = 0.0
    ticks_seconds: float = 0.0


def _digest(url: str) -> str:
    """What stands for a URL where it is kept: its query may hold a key."""
    return hashlib.sha256(url.encode()).hexdigest()


class Fetcher:
    """One system's fetcher; `run` is the role, `fetch_once` a single fetch. `clock` tells the time of new snapshots.

    `turn` is its place among the others.
    """

    def __init__(
        self,
        system: System,
        upstream: Upstream,
        delivery: Delivery,
        memory: SystemIndex,
        clock: Callable[[], dt.datetime] = utc_now,
        on_fetched: Callable[[FetchFinished | DocumentsDropped], None] = lambda event: None,
        turn: Turn = Turn(),
    ) -> None:
        self._system = system
        self._turn = turn
        self._settings = system.feed
        self._upstream = upstream
        self._delivery = delivery
        self._memory = memory
        self._format = format_of(system)
        self._clock = clock
        self._on_fetched = on_fetched
        self._place = public_url(system.feed.url)
        self.journal = Journal(self._place)
        self.clock_watch = ClockWatch(self._place, system.feed.clock_seconds)
        self.polls: Recorder | None = None
        """Who records each poll."""
        self._dead_letters = FeedDeadLetters(delivery.store, delivery.layout, self._format, system.feed, on_fetched)
        self._began = time.monotonic()
        self._whole_at: dict[str, float] = {}
        """When each document last came whole, by its URL, on the monotonic clock."""
        self._known: FetchState | None = None
        self._last = asyncio.Event()
        """Set when no further fetch is to begin."""
        self._next_tick: float | None = None
        self._last_tick: float | None = None
        self._polling: asyncio.Task[None] | None = None
        self._taking = False
        """Whether a snapshot is just being kept."""
        self._was_cut_short = False

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch at every tick and deliver beside it until `stop` is set, then finish what is in hand; or `leave`."""
        hurry = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._delivery.run(hurry), name="delivery")
            polling = self._polling = tasks.create_task(self._poll(stop), name="polling")
            stopped = tasks.create_task(stop.wait(), name="stop")
            await asyncio.wait([polling, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            hurry.set()
            self._last.set()
            await asyncio.wait([polling], timeout=GRACE_SECONDS)
            polling.cancel()
            await asyncio.wait([polling])
            self._delivery.finish(leave_rest=not stop.is_set())

    def leave(self) -> None:
        """Let `run` end after the fetch under way: a successor takes over, and delivers what waits in the spool."""
        self._last.set()

    def cut_short(self) -> None:
        """After `leave`: wait no longer for the feed; the successor asks it again at once."""
        if self._polling is not None and not self._polling.done() and not self._taking:
            self._was_cut_short = True
            self._polling.cancel()

    def take_over(self, predecessor: Fetcher) -> None:
        """Go on where another fetcher has ended: with its last snapshot, its ticks, and what it has told already."""
        clock, interval = asyncio.get_running_loop().time, self._settings.interval_seconds
        self._known = predecessor._known
        self._began, self._whole_at = predecessor._began, predecessor._whole_at
        if predecessor._place == self._place:
            self.journal, self.clock_watch.fault = predecessor.journal, predecessor.clock_watch.fault
        if self._settings == predecessor._settings and self._system.format == predecessor._system.format:
            self._format = predecessor._format  # with the documents that it holds
        changed = predecessor._settings.url != self._settings.url
        if changed or predecessor._last_tick is None or predecessor._was_cut_short:
            self._next_tick = clock()
        else:
            due = [predecessor._last_tick + interval, predecessor._next_tick]
            self._next_tick = min(tick for tick in due if tick is not None)

    async def fetch_once(self, stop: asyncio.Event | None = None, late_seconds: float = 0) -> FetchOutcome:
        """One fetch, tried again within its tick; what is new lies in the spool when this returns.

        It was due `late_seconds` ago. It is recorded when this returns.
        """
        trace_id = new_trace_id()
        started, attempts = time.monotonic(), self._upstream.attempts
        started_at = self._clock()
        due_at = started_at - dt.timedelta(seconds=late_seconds)
        with bound(system=self._system.id, trace_id=trace_id):
            outcome = await self._outcome(trace_id, stop, due_at)
            seconds = round(time.monotonic() - started, 3)
            outcome = replace(outcome, duration_seconds=seconds, attempts=self._upstream.attempts - attempts)
            self.journal.note(outcome)
            if self.polls is not None:
                key = self._known.key if self._known and outcome.good else ""
                await self.polls.record(outcome, key, due_at, started_at, started_at + dt.timedelta(seconds=seconds))
        self._on_fetched(FetchFinished(self._system.id, utc_now(), outcome))
        return outcome

    async def _poll(self, stop: asyncio.Event) -> None:
        clock, interval = asyncio.get_running_loop().time, self._settings.interval_seconds
        if self._next_tick is None:
            began = clock()
            self._next_tick = began + self._turn.ticks_seconds
            if self._turn.first_seconds < self._turn.ticks_seconds and not await tick(
                self._last, self._turn.first_seconds
            ):
                self._last_tick = began
                await self.fetch_once(stop)
        started, number = self._next_tick, 0
        await tick(self._last, started - clock())
        while not (self._last.is_set() or stop.is_set()):
            self._last_tick = started + number * interval
            await self.fetch_once(stop, clock() - self._last_tick)
            # Ticks lie on a fixed grid: nothing drifts, and those that a slow fetch has missed are left out.
            number = max(number, int((clock() - started) // interval)) + 1
            self._next_tick = started + number * interval
            await tick(self._last, self._next_tick - clock())

    async def _outcome(self, trace_id: str, stop: asyncio.Event | None, due_at: dt.datetime) -> FetchOutcome:
        try:
            known = await self._recall()
            if self.polls is not None:
                await self.polls.start(due_at, known.key if known else "")
            return await self._fetch(known, trace_id, stop)
        except CircuitOpen as error:
            return FetchOutcome("skipped_open_circuit", trace_id, error=str(error))
        except NotAFeed as error:
            return FetchOutcome("not_a_feed", trace_id, bytes=len(error.body), error=str(error), status=error.status)
        except NotSpooled as error:
            return FetchOutcome("lost", trace_id, error=str(error))
        except (Transient, Permanent) as error:
            return FetchOutcome("failed", trace_id, error=str(error), status=error.status, reason=error.reason)

    async def _fetch(self, known: FetchState | None, trace_id: str, stop: asyncio.Event | None) -> FetchOutcome:
        answers: dict[str, Answer] = {}

        async def ask(url: str, validators: tuple[str, str] | None = None, *, retry: bool = True) -> Answer:
            if validators is None and known:
                validators = known.validators.get(_digest(url))
            if time.monotonic() - self._whole_at.get(url, self._began) >= WHOLE_SECONDS:
                validators = None  # a server that always says "not modified" may be wrong: ask for the whole document
            answer = answers[url] = await self._upstream.ask(
                url, validators, stop, self.journal.note_retry, retry=retry
            )
            self.clock_watch.note(url, answer.server_time, self._clock(), time.monotonic())
            if answer.body is not None:
                if len(self._whole_at) >= MOST_DOCUMENTS:  # addresses that change all the time
                    self._whole_at.clear()
                self._whole_at[url] = time.monotonic()
            return answer

        try:
            data = await self._format.snapshot(self._settings.url, ask, whole=self._begins_day(known))
        except (NotAFeed, MemoryError) as error:
            refused = error if isinstance(error, NotAFeed) else NotAFeed("there is not enough memory to read it")
            if not answers:
                raise refused from error
            last = list(answers.values())[-1]
            answer = next((one for one in answers.values() if refused.body and one.body is refused.body), last)
            await self._dead_letters.keep(answer, raw=refused.raw, url=self._place, reason=str(refused), at=self._now())
            told = NotAFeed(str(refused), body=answer.body or b"")
            told.status = answer.status
            raise told from error
        status = list(answers.values())[-1].status if answers else None
        if data is None:
            return FetchOutcome("not_modified", trace_id, status=status)
        self._taking = True
        try:
            return replace(await self._take(data, answers, known, trace_id), status=status)
        finally:
            self._taking = False

    async def _take(
        self, data: bytes, answers: Mapping[str, Answer], known: FetchState | None, trace_id: str
    ) -> FetchOutcome:
        at = self._now()
        try:
            sha256 = await asyncio.to_thread(self._format.fingerprint, data)
        except MemoryError:
            sha256 = hashlib.sha256(data).hexdigest()
        if known is not None and sha256 == known.sha256 and not self._begins_day(known):
            key, outcome = known.key, FetchOutcome("duplicate", trace_id, bytes=len(data))
        else:
            key = await self._delivery.accept(self._next_second(at, known), trace_id, data)
            outcome = FetchOutcome("stored", trace_id, key=key, bytes=len(data))
        validators = {_digest(url): (answer.etag, answer.last_modified) for url, answer in answers.items()}
        self._known = FetchState(sha256, key, at, validators)
        try:
            await asyncio.to_thread(self._memory.save_fetch_state, self._known)
        except Transient as error:  # the snapshot itself is safe
            _log.warning("fetch_state_not_saved", error=str(error))
        return outcome

    def _now(self) -> dt.datetime:
        return self._clock().astimezone(UTC).replace(microsecond=0)

    async def _recall(self) -> FetchState | None:
        """The last snapshot: from this process, the spool, the memory or, at the very first start, the lake."""
        if self._known is None:
            known = await asyncio.to_thread(self._memory.fetch_state)
            waiting = self._delivery.spool.entries
            last = self._time(known)
            if waiting and (last is None or waiting[-1].time > last):
                # An earlier process ended after it had spooled this one and before it could remember it.
                key = self._delivery.layout.raw_key(waiting[-1].time)
                data = await self._delivery.spool.read(waiting[-1])
                if data is not None:
                    known = FetchState(self._format.fingerprint(data), key, waiting[-1].time)
            try:
                archive = self._delivery.store, self._delivery.layout, self._clock()
                self._known = known or await newest_snapshot(*archive, self._format.fingerprint)
            except (Transient, Permanent) as error:  # the next fetch tries again
                _log.debug("archive_unreadable", error=str(error))
        return self._known

    def _time(self, known: FetchState | None) -> dt.datetime | None:
        return self._delivery.layout.snapshot_time(known.key) if known else None

    def _begins_day(self, known: FetchState | None) -> bool:
        """Whether the last snapshot is of an earlier day (UTC): each day's first one is kept, whatever is in it.

        So a day can be told by its own files.
        """
        last = self._time(known)
        return last is not None and last.date() < self._now().date()

    def _next_second(self, at: dt.datetime, known: FetchState | None) -> dt.datetime:
        """`at`, or the second after the last snapshot where the clock has not come so far yet.

        After a greater jump backwards `at` is right and the last one was wrong; the delivery overwrites nothing then.
        """
        last = self._time(known)
        return last + _SECOND if last is not None and at <= last <= at + _NUDGE else at


async def newest_snapshot(
    store: Store, layout: Layout, now: dt.datetime, fingerprint: Callable[[bytes], str]
) -> FetchState | None:
    """The newest raw file of today, or None if there is none yet; `fingerprint` is its format's.

    Raises what the store raises.
    """
    key = ""
    async for page in store.pages(layout.raw, after=layout.raw_folder(now.astimezone(UTC).date())):
        keys = (info.key for info in page if layout.raw_file(info) and layout.snapshot_time(info.key))
        key = max(keys, default=key)
    time = layout.snapshot_time(key)
    if time is None:
        return None
    stored = await store.get(key)
    return FetchState(fingerprint(stored.data), key, time)
