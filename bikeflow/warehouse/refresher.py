"""The refresher role: publishes the analytics database after partitions were processed.

It is driven by level, not by edge: what it was woken for only matters to its log; what it does is to make the mirror,
and then the database, equal to what the ledger says.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import (
    DatabasePublished,
    Partition,
    Publication,
    RunFinished,
    SegmentObject,
    SegmentWritten,
)
from bikeflow.runtime.log import get_logger, traced
from bikeflow.runtime.retry import retrying, tick, tick_or, woken_or
from bikeflow.settings.sections import RetrySettings, WarehouseSettings
from bikeflow.warehouse import Mirror, MirrorChange, Refresh, Warehouse

REST_SECONDS = 5.0
"""A refresh waits for twice as long as the one before took, but no longer than this."""
DAILY_SECONDS = 1.0
"""For so long a refresh does each thing that is due once a day: with many systems, that takes some minutes."""
log = get_logger()


class Refresher:
    """Keeps the published database current.

    `segments` gives the enhanced files that exist now, or None while that is unknown: nothing is published then.
    """

    def __init__(
        self,
        settings: WarehouseSettings,
        retry: RetrySettings,
        segments: Callable[[], list[SegmentObject] | None],
        mirror: Mirror,
        warehouse: Warehouse,
        on_published: Callable[[DatabasePublished], None] | None = None,
    ) -> None:
        self._settings = settings
        self._retry = retry
        self._segments = segments
        self._mirror = mirror
        self._warehouse = warehouse
        self._on_published = on_published
        self._woken = asyncio.Event()
        self._traces: dict[str, None] = {}
        self._written: dict[Partition, list[SegmentWritten]] = {}
        self.published: Publication | None = None
        """What this process published last."""
        self.last_error: str | None = None
        """Why the database is not current, or None."""
        self.failing_since: dt.datetime | None = None
        self.attempts = 0
        """Refreshes that have ended, well or not."""
        self._refreshing = False
        self._rest_seconds = 0.0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to refresh."""
        return not self._refreshing and not self._woken.is_set()

    @property
    def steps(self) -> int:
        """What this process has brought to an end: refreshes, well or not, and segments within them."""
        return self.attempts + self._warehouse.steps

    def take_over(self, predecessor: Refresher) -> None:
        """Know how another refresher was doing, and which snapshots it has not published yet."""
        self.last_error, self.failing_since = predecessor.last_error, predecessor.failing_since
        self._traces.update(predecessor._traces)

    def wake(self, event: RunFinished | None = None) -> None:
        """Something is to be published: what a run has processed, or (no `event`) what else the ledger has learned."""
        if event is not None:
            self._traces.update(dict.fromkeys(event.run.traces))
            self._written.setdefault(event.run.partition, []).extend(event.written)
        self._woken.set()

    def store_answers(self) -> None:
        """The store has answered somebody: a refresh that failed is worth another attempt now."""
        if self.failing_since is not None:
            self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Refresh at once, then after each wake, until stopped; what is pending then is refreshed first.

        A refresh that fails is tried again until it works: readers keep the last database meanwhile.
        """
        self._warehouse.daily_seconds = DAILY_SECONDS
        self._woken.set()
        told = ""
        while await self._check_until_woken(stop):
            # under load, a third of the time at most: what comes meanwhile is published together
            await tick(stop, max(self._settings.debounce_seconds, self._rest_seconds))
            self._woken.clear()
            try:
                # Once a whole round of attempts has failed, each wake is worth one: they come often enough.
                await (self.refresh_once() if told else retrying(self._retry, stop)(self.refresh_once))
                told = ""
            except BikeflowError as error:
                if str(error) != told:
                    log.error("refresh_failed", error=str(error))
                told = str(error)
                if await tick_or(self._woken, stop, self._retry.max_seconds):
                    return
                self._woken.set()

    async def refresh_once(self) -> Publication | None:
        """Bring mirror and database up to date with the ledger, and publish; raises Transient, Permanent.

        Returns None, and does nothing, where the ledger does not know the segments yet.
        """
        started, traces = time.monotonic(), tuple(self._traces)
        self._refreshing = True
        # before the segments are asked for: what was written by now is among them
        written, self._written = self._written, {}
        try:
            wanted = await asyncio.to_thread(self._segments)
            if wanted is None:
                return None
            change, refresh = await self._refresh(wanted, written)
        except BaseException as error:
            self.last_error = str(error)
            self.failing_since = self.failing_since or dt.datetime.now(dt.UTC)
            self._mirror.distrust()  # whatever it was, somebody may have touched the mirror's files
            if isinstance(error, asyncio.CancelledError):
                self._warehouse.interrupt()  # a thread can't be cancelled
            raise
        finally:
            self._refreshing = False
            self._rest_seconds = min(2 * (time.monotonic() - started), REST_SECONDS)
            self.attempts += 1
        for trace in traces:
            self._traces.pop(trace, None)
        self.published, self.last_error, self.failing_since = refresh.published, None, None
        if not (refresh.read or refresh.added or refresh.removed):
            self._rest_seconds = 0.0  # nothing was new, as at a start: the first snapshot need not wait
        seconds = time.monotonic() - started
        _report(change, refresh, traces, seconds)
        if self._on_published is not None:
            told = DatabasePublished(**asdict(refresh.published), traces=traces, duration_seconds=seconds)
            self._on_published(told)
        return refresh.published

    async def _refresh(
        self, wanted: list[SegmentObject], written: Mapping[Partition, Sequence[SegmentWritten]]
    ) -> tuple[MirrorChange, Refresh]:
        change = await self._mirror.sync(wanted)
        refresh = await asyncio.to_thread(self._warehouse.refresh, self._mirror.files, written)
        if refresh.damaged:
            # maybe only our copies are: fetch them again
            await self._mirror.discard(refresh.damaged)
            change = await self._mirror.sync(wanted)
            refresh = await asyncio.to_thread(self._warehouse.refresh, self._mirror.files)
            await self._mirror.discard(refresh.damaged)
        await self._mirror.prune()
        return change, refresh

    async def _check_until_woken(self, stop: asyncio.Event) -> bool:
        """Compare the mirror's files with their digests as long as there is nothing better to do, then wait."""
        while not (self._mirror.is_checked or self._woken.is_set() or stop.is_set()):
            try:
                damaged = await self._mirror.check_next()
                if damaged is not None:
                    await asyncio.to_thread(self._warehouse.forget, damaged)
                    self._woken.set()
            except BikeflowError as error:
                log.warning("mirror_check_failed", error=str(error))
        return await woken_or(self._woken, stop)


def _report(change: MirrorChange, refresh: Refresh, traces: tuple[str, ...], seconds: float) -> None:
    published = refresh.published
    newest: dt.datetime | None = published.newest_snapshot
    tell = log.warning if refresh.damaged else log.info
    tell(
        "refreshed",
        partitions_read=refresh.read,
        partitions_added_to=refresh.added,
        **({"partitions_removed": refresh.removed} if refresh.removed else {}),
        **({"segments_unavailable": change.unavailable} if change.unavailable else {}),
        **({"segments_damaged": len(refresh.damaged)} if refresh.damaged else {}),
        segments=published.segments,
        rows=published.rows,
        stations=published.stations,
        bikes=published.bikes,
        newest_snapshot=None if newest is None else f"{newest.replace(tzinfo=None).isoformat(timespec='seconds')}Z",
        bytes=published.size_bytes,
        duration_seconds=round(seconds, 3),
        **traced(traces),
    )
