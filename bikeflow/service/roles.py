"""The roles of one pipeline at work, from their start to their end, or to their relief by those of another one.

At the end producers stop first, the queue drains, the processors end, the database is refreshed once more, clients
close. At a relief the fetcher goes on until its successor is ready: what it does not miss can't be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import Self

from bikeflow.core.events import Events
from bikeflow.runtime.log import get_logger
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings

LAST_FETCH_SECONDS = 2.0
"""What the fetches under way get before a relief cuts them short: meanwhile no other one begins."""
log = get_logger()


class Roles:
    """Roles side by side on one pipeline; `work` ends when they all have, and raises what one raises unexpectedly."""

    def __init__(self, settings: Settings, pipeline: Pipeline, closing: AsyncExitStack) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self._closing = closing
        self._stop_fetching = asyncio.Event()
        self._stop_watching = asyncio.Event()
        self._last_upload = asyncio.Event()
        self._last_refresh = asyncio.Event()
        self._last_export = asyncio.Event()
        self._started = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        pipeline.write_every(settings.processing.write_seconds)
        self.work = asyncio.create_task(self._run(), name="roles")

    @classmethod
    async def start(cls, settings: Settings, events: Events, predecessor: Roles | None = None) -> Self:
        """Open a pipeline and let its roles begin; a `predecessor` has been wound down, and is relieved on the way.

        Raises what `open_pipeline` raises; then the predecessor may still be fetching.
        """
        async with AsyncExitStack() as stack:
            opening = open_pipeline(settings, events, predecessor.relieve if predecessor else None)
            pipeline = await stack.enter_async_context(opening)
            if predecessor is not None:
                await pipeline.take_over(predecessor.pipeline, same_lake=same_lake(settings, predecessor.settings))
            roles = cls(settings, pipeline, stack.pop_all())
        await roles._started.wait()
        return roles

    async def finish(self) -> None:
        """End all in order, with the work in hand done; a backlog gets half of `daemon.shutdown_seconds`."""
        queue = self.pipeline.shared.queue
        self._stop_fetching.set()
        await asyncio.wait(self._named("fetcher "))
        self._last_upload.set()
        self._stop_watching.set()  # the watchers have heard of the last snapshots
        await asyncio.wait(self._named("watcher "))
        await self.pipeline.write_all()
        await queue.close()
        _, busy = await asyncio.wait(self._named("processor "), timeout=self.settings.daemon.shutdown_seconds / 2)
        if busy:
            # A long backlog is no work in hand: the ledger keeps it for the next start.
            await queue.drop_waiting()
            await asyncio.wait(busy)
        self._last_refresh.set()
        await asyncio.wait([self._tasks["refresher"]])
        self._last_export.set()
        await self.work
        await self._closing.aclose()

    async def wind_down(self) -> None:
        """End all roles but the fetchers: work in hand is done, what waits is left to the ledger, and so to others."""
        shared = self.pipeline.shared
        self._stop_watching.set()
        await shared.queue.drop_waiting()
        await shared.queue.close()
        shared.engine.fail_fast()
        await self._end([*self._named("watcher "), *self._named("processor ")])
        self._last_refresh.set()
        await self._end([self._tasks["refresher"]])
        self._last_export.set()
        await self._end(self._named("exporter "))
        self._tasks["polls"].cancel()  # what it had in hand is its successor's
        await asyncio.wait([self._tasks["polls"]])

    async def relieve(self) -> None:
        """Let the fetchers end after the fetch under way, and close everything; raises what a role has raised."""
        lanes = self.pipeline.lanes.values()
        for lane in lanes:
            lane.fetcher.leave()
        _, slow = await asyncio.wait(self._named("fetcher "), timeout=LAST_FETCH_SECONDS)
        if slow:
            for lane in lanes:
                lane.fetcher.cut_short()
            longest = max(system.feed.timeout_seconds for system in self.settings.all_systems)
            await asyncio.wait(slow, timeout=longest)
        self._stop_fetching.set()
        await self.work
        await self._closing.aclose()

    async def abort(self) -> None:
        """End whatever still runs, without order, and close everything."""
        self.work.cancel()
        await asyncio.wait([self.work])
        await self._closing.aclose()

    def _named(self, prefix: str) -> list[asyncio.Task[None]]:
        return [task for name, task in self._tasks.items() if name.startswith(prefix)]

    async def _run(self) -> None:
        shared, lanes, workers = self.pipeline.shared, self.pipeline.lanes, self.settings.processing.workers
        work = {
            **{f"fetcher {name}": lane.fetcher.run(self._stop_fetching) for name, lane in lanes.items()},
            **{f"watcher {name}": lane.watcher.run(self._stop_watching) for name, lane in lanes.items()},
            **{f"processor {number}": shared.processor.run() for number in range(1, workers + 1)},
            "polls": self.pipeline.polls.run(self._last_upload),
            "refresher": shared.refresher.run(self._last_refresh),
            **{f"exporter {number}": one.run(self._last_export) for number, one in enumerate(shared.exporters, 1)},
        }
        async with asyncio.TaskGroup() as group:
            self._tasks = {name: group.create_task(role, name=name) for name, role in work.items()}
            self._started.set()

    async def _end(self, tasks: Collection[asyncio.Task[None]]) -> None:
        """Wait until roles that were told to have ended; one that takes too long is cut short, as a crash would."""
        if not tasks:
            return
        patience_seconds = self.settings.daemon.shutdown_seconds
        _, late = await asyncio.wait(tasks, timeout=patience_seconds)
        for task in late:
            log.warning("role_cut_short", role=task.get_name(), patience_seconds=patience_seconds)
            task.cancel()
        if late:
            await asyncio.wait(late)


def same_lake(one: Settings, other: Settings) -> bool:
    """Whether both keep objects in the same place, by whatever keys and connections; not of which systems."""
    return _place(one) == _place(other)


def _place(settings: Settings) -> tuple[object, ...]:
    storage = settings.storage
    local = str(settings.data_dir.resolve()) if storage.backend == "local" else ""
    return storage.backend, local or storage.endpoint_url, storage.bucket
