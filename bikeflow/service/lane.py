"""A lane: what one system has for itself. Its trouble ends at its edge."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bikeflow.core.layout import Layout
from bikeflow.core.model import Fault, LaneVitals, Pulse, SnapshotStored
from bikeflow.feeds import format_of, layout_of
from bikeflow.ingest import Delivery, Fetcher
from bikeflow.ingest.fetcher import Turn
from bikeflow.ingest.spool import NotSpooled, Spool
from bikeflow.ingest.upstream import Upstream
from bikeflow.lake.reconciler import Reconciler
from bikeflow.lake.watcher import Watcher
from bikeflow.ledger import SystemIndex
from bikeflow.polls import PollArchive, Recorder
from bikeflow.polls.archive import copies_root
from bikeflow.runtime.log import get_logger
from bikeflow.service.shared import Shared
from bikeflow.settings import Settings
from bikeflow.settings.systems import System, place_of

FIRST_FETCH_SPACING_SECONDS = 0.2
"""From the first fetch of one system after a start to that of the next: hundreds at once would hold each other up."""
SEAL_SPACING_MINUTES = 0.1
"""From the time at which the finished day of one system is sealed to that of the next."""
LONGEST_SEALING = 360.0
"""Within so many minutes all systems are sealed."""
log = get_logger()


@dataclass(frozen=True, slots=True)
class Lane:
    """The parts of one system: fetcher, spool, the watcher of its raw files, and the record of its polls."""

    system: System
    layout: Layout
    index: SystemIndex
    fetcher: Fetcher
    delivery: Delivery
    watcher: Watcher
    reconciler: Reconciler
    polls: PollArchive

    async def take_over(self, predecessor: Lane, *, same_lake: bool) -> None:
        """Go on where another lane of the system was, whose roles have ended; `same_lake`: it worked on our lake."""
        self.fetcher.take_over(predecessor.fetcher)
        spool, left = self.delivery.spool, predecessor.delivery.spool
        if left.directory.resolve() != spool.directory.resolve():
            try:
                await spool.adopt(left)
            except NotSpooled as error:
                log.error("snapshots_left_behind", count=left.depth, directory=str(left.directory), error=str(error))
        spool.take_over(left)
        if same_lake and predecessor.layout == self.layout:
            self.delivery.take_over(predecessor.delivery)
            self.watcher.take_over(predecessor.watcher)
            self.index.files.unwritten.take_over(predecessor.index.files.unwritten)

    def vitals(self, *, queue_full: bool) -> LaneVitals:
        """How the lane's roles are doing now."""
        spool, missing = self.delivery.spool, self.reconciler.missing
        return LaneVitals(
            feed=self.fetcher.journal.fault,
            delivery=self.delivery.fault,
            watcher=self.watcher.fault,
            polled_at=self.watcher.last_poll_at,
            spool_snapshots=spool.depth,
            spool_bytes=spool.size_bytes,
            clock=self.fetcher.clock_watch.fault or self.delivery.shifted,
            spool_oldest_seconds=spool.oldest_seconds,
            unspooled=spool.fault,
            memory_snapshots=spool.in_memory,
            queue_full=queue_full,
            missing=None if missing is None else Fault(missing.since, missing.reason),
            missing_files=0 if missing is None else missing.count,
        )

    def pulses(self, answered: int, *, held_back: bool) -> dict[str, Pulse]:
        """How far each role has come; `answered` counts requests to the store, `held_back`: the queue has no room."""
        delivery = self.delivery
        return {
            "fetcher": Pulse(sum(self.fetcher.journal.counts.values())),
            "delivery": Pulse(delivery.attempts, idle=delivery.spool.depth == 0),
            "watcher": Pulse(self.watcher.attempts + answered, idle=held_back),
        }


@asynccontextmanager
async def open_lane(system: System, shared: Shared) -> AsyncIterator[Lane]:
    """Open what the system has for itself, over the parts that all systems share."""
    settings, store, emit = shared.settings, shared.store, shared.events.emit
    layout, index = layout_of(system), shared.ledger.systems[system.id]
    await asyncio.to_thread(index.settle_in, place_of(settings.storage, system))
    directory = settings.data_dir.absolute() / "spool"
    await asyncio.to_thread(_adopt_old_spool, directory, directory / system.id)
    spool = await Spool.open(directory / system.id, system.feed.spool_max_bytes, system.feed.spool_memory_bytes)

    def stored(event: SnapshotStored) -> None:
        recorder.note_stored(event)
        emit(event)

    recorder = Recorder(shared.polls, system.id, system.feed.interval_seconds, layout.snapshot_time)
    delivery = Delivery(store, layout, spool, settings.retry, stored, shared.cache, system.feed.clock_seconds)
    turn, seal_after = turns(settings, system)
    reconciler = Reconciler(store, layout, index, format_of(system), seal_after, trace_id=delivery.trace_id, tell=emit)
    polls = PollArchive(store, layout, shared.polls, copies_root(settings.data_dir), lambda: _oldest(spool))
    watcher = Watcher(shared.listings, store, layout, index, shared.ledger.runs, shared.queue, reconciler)
    upstream = Upstream(system.feed, settings.retry, shared.connections)
    fetcher = Fetcher(system, upstream, delivery, index, on_fetched=emit, turn=turn)
    fetcher.polls = recorder
    yield Lane(system, layout, index, fetcher, delivery, watcher, reconciler, polls)
    await recorder.flush()


def turns(settings: Settings, system: System) -> tuple[Turn, float]:
    """When a system is fetched, and how many minutes after midnight its finished day is sealed: not all at once."""
    place, lanes = settings.places[system.id], len(settings.all_systems)
    interval = system.feed.interval_seconds
    turn = Turn(place * min(FIRST_FETCH_SPACING_SECONDS, interval / lanes), interval * place / lanes)
    return turn, settings.processing.seal_after_minutes + place * min(SEAL_SPACING_MINUTES, LONGEST_SEALING / lanes)


def _oldest(spool: Spool) -> dt.datetime | None:
    """The time of the oldest snapshot that waits for the store."""
    return min((entry.time for entry in spool.entries), default=None)


def _adopt_old_spool(old: Path, new: Path) -> None:
    """Snapshots that a version without systems has left go to the first system that is opened: it had only one."""
    for path in sorted(old.glob("*.txt")) if old.is_dir() else ():
        new.mkdir(parents=True, exist_ok=True)
        path.rename(new / path.name)
