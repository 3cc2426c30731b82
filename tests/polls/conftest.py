"""A fetcher whose polls are recorded, over a real feed server, a real store and real files."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bikeflow.ingest import Delivery, Fetcher
from bikeflow.ingest.spool import Spool
from bikeflow.ingest.upstream import Connections, Upstream
from bikeflow.ledger import Ledger
from bikeflow.polls import Poll, PollArchive, PollLog, Recorder
from bikeflow.polls.archive import copies_root
from bikeflow.settings.sections import FeedSettings, RetrySettings, StorageSettings
from bikeflow.store import Store, open_store
from tests.support.feedserver import FeedServer, serve
from tests.support.wrm import wrm, wrm_layout

LAYOUT = wrm_layout()
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@dataclass
class Clock:
    """A clock that a test sets; it stands still otherwise."""

    now: dt.datetime = NOON

    def __call__(self) -> dt.datetime:
        return self.now


@dataclass
class Polls:
    """What a poller lives in; `start` begins a new process on the same disk."""

    server: FeedServer
    store: Store
    data_dir: Path
    stack: AsyncExitStack
    clock: Clock = field(default_factory=Clock)
    log: PollLog = field(init=False)
    archive: PollArchive = field(init=False)
    spool: Spool = field(init=False)
    fetcher: Fetcher = field(init=False)
    delivery: Delivery = field(init=False)

    async def start(self, interval_seconds: float = 60) -> None:
        """Begin a new process; the one before has ended without a word."""
        retry = RetrySettings(attempts=1)
        settings = FeedSettings(url=self.server.url, interval_seconds=interval_seconds, timeout_seconds=5)
        system = wrm(settings)
        self.log = PollLog(self.data_dir)
        self.stack.callback(self.log.close)
        memory = self.stack.enter_context(Ledger(self.data_dir, [LAYOUT], 60)).systems[system.id]
        self.spool = await Spool.open(self.data_dir / "spool", 1_000_000)
        recorder = Recorder(self.log, system.id, interval_seconds, LAYOUT.snapshot_time)
        self.delivery = Delivery(self.store, LAYOUT, self.spool, retry, recorder.note_stored)
        connections = await self.stack.enter_async_context(Connections(settings.connections_per_host))
        upstream = Upstream(settings, retry, connections)
        self.fetcher = Fetcher(system, upstream, self.delivery, memory, clock=self.clock)
        self.fetcher.polls = recorder
        self.archive = PollArchive(
            self.store,
            LAYOUT,
            self.log,
            copies_root(self.data_dir),
            lambda: min((entry.time for entry in self.spool.entries), default=None),
            self.clock,
        )

    async def poll(self, *seconds: float) -> None:
        """Poll so many seconds after noon, each time, and deliver."""
        for number in seconds:
            self.clock.now = NOON + dt.timedelta(seconds=number)
            await self.fetcher.fetch_once()
            await self.delivery.drain()

    def rows(self) -> list[Poll]:
        """All rows on this machine, in the order of their times."""
        return sorted(self.log.since(0).values(), key=lambda poll: poll.due_at)

    def told(self) -> list[tuple[float, int, str, str | None]]:
        """Of each row the seconds after noon, how many polls it stands for, what they came to, and why."""
        return [((row.due_at - NOON).total_seconds(), row.polls, row.outcome, row.reason) for row in self.rows()]


@pytest.fixture
async def polls(tmp_path: Path) -> AsyncIterator[Polls]:
    """The first process, not started yet."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve())
        store = await stack.enter_async_context(open_store(StorageSettings(), tmp_path))
        yield Polls(server, store, tmp_path, stack)
