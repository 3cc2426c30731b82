"""Everything a bikeflow process is made of: the parts that all systems share, and a lane for each system.

The roles share a queue, a store, the ledger and each other's events, nothing else; here alone they meet.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bikeflow.core.events import Events, Listener
from bikeflow.core.model import (
    DatabasePublished,
    Event,
    Fault,
    LakeReconciled,
    Partition,
    PartitionJob,
    Pulse,
    RunFinished,
    SnapshotStored,
    StoreAnswered,
    StoreOperation,
    Vitals,
)
from bikeflow.polls import PollUploader
from bikeflow.service.lane import Lane, open_lane
from bikeflow.service.shared import Shared, open_shared
from bikeflow.settings import Settings

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of a running bikeflow; the lanes by the id of their system."""

    shared: Shared
    lanes: Mapping[str, Lane]
    polls: PollUploader

    @property
    def database_path(self) -> Path:
        """Where the published database lies."""
        return self.shared.warehouse.path

    async def take_over(self, predecessor: Pipeline, *, same_lake: bool) -> None:
        """Go on where another pipeline was, whose roles have ended; `same_lake` says that it worked on our lake."""
        for system_id, lane in self.lanes.items():
            if system_id in predecessor.lanes:
                await lane.take_over(predecessor.lanes[system_id], same_lake=same_lake)
        if same_lake:
            self.shared.refresher.take_over(predecessor.shared.refresher)

    async def reconcile(self) -> None:
        """Make the ledger agree with the whole lake of each system; raises what the store raises."""
        for lane in self.lanes.values():
            await lane.reconciler.reconcile()
            await lane.polls.sync()

    async def process(
        self,
        wanted: Callable[[Partition], bool],
        total: int = 0,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Write all dirty segments of the partitions that are `wanted`, then seal the days that are over.

        `tell` is called several times a second with the raw files done, and the `total` that the caller expects. The
        queue is closed afterwards.
        """
        work = asyncio.create_task(self._process(wanted))
        while not work.done():
            await asyncio.wait([work], timeout=PROGRESS_SECONDS)
            tell(min(self.shared.processor.files_parsed, total), total)
        await work

    async def _process(self, wanted: Callable[[Partition], bool]) -> None:
        queue = self.shared.queue
        async with asyncio.TaskGroup() as group:
            for _ in range(self.shared.settings.processing.workers):
                group.create_task(self.shared.processor.run())
            for _ in ("as they are cut", "sealed"):
                for lane in self.lanes.values():
                    await lane.reconciler.seal_finished_days(quiet=dt.timedelta(0), idle=True)
                    for partition in await asyncio.to_thread(lane.index.files.dirty_partitions):
                        if wanted(partition):
                            await queue.put(PartitionJob(partition))
                await queue.join()
            await queue.close()

    def write_every(self, seconds: float) -> None:
        """Let open segments wait for so long before they are written to the store again; 0: write all at once."""
        for lane in self.lanes.values():
            lane.index.files.unwritten.write_seconds = seconds

    async def write_all(self) -> None:
        """Put what waits to be written to the store on the queue; behind a backlog it is left to the next start."""
        self.write_every(0)
        for system_id, lane in self.lanes.items():
            for partition in sorted(lane.index.files.unwritten.partitions()):
                if not self.shared.queue.full(system_id):
                    await self.shared.queue.put(PartitionJob(partition))

    async def publish(self) -> None:
        """Publish the database once, to all configured places; raises Transient, Permanent."""
        await self.shared.refresher.refresh_once()
        for exporter in self.shared.exporters:
            await exporter.export_once()

    def vitals(self) -> Vitals:
        """How the roles are doing now."""
        queue, refresher = self.shared.queue, self.shared.refresher
        return Vitals(
            lanes={name: lane.vitals(queue_full=queue.full(name)) for name, lane in self.lanes.items()},
            refresher=Fault(refresher.failing_since, refresher.last_error or "") if refresher.failing_since else None,
            queue_waiting=queue.waiting,
            queue_in_flight=queue.in_flight,
            queue_stalled_seconds=queue.stalled_seconds,
        )

    def pulses(self) -> Mapping[str, Pulse]:
        """How far each role has come; requests to the store count for those who make such."""
        shared, answered = self.shared, self.shared.store.answered
        queue, refresher = shared.queue, shared.refresher
        found: dict[str, Pulse] = {}
        for system_id, lane in self.lanes.items():
            # A full queue holds the watcher back: then it is the processors' turn.
            pulses = lane.pulses(answered["list"] + answered["get"], held_back=queue.full(system_id))
            found |= {f"{role} {system_id}": pulse for role, pulse in pulses.items()}
        return {
            **found,
            "processors": Pulse(
                queue.finished + shared.processor.files_parsed + answered["get"],
                idle=not queue.waiting and not queue.in_flight,
            ),
            "refresher": Pulse(refresher.steps + answered["get"], idle=refresher.idle),
        }


@asynccontextmanager
async def open_pipeline(
    settings: Settings,
    events: Events | None = None,
    predecessor_left: Callable[[], Awaitable[object]] | None = None,
) -> AsyncIterator[Pipeline]:
    """Open the clients and files, build the roles; closes them in reverse order. The caller holds `data_dir`'s lock.

    `events` is where the roles tell what happens. `predecessor_left` is awaited when all is open that takes time, and
    before the spools are: until then another pipeline's fetchers may use them, so that no poll is missed when one takes
    the place of another.
    """
    events = events or Events()
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(open_shared(settings, events, predecessor_left))
        lanes = {
            system.id: await stack.enter_async_context(open_lane(system, shared)) for system in settings.all_systems
        }
        polls = PollUploader([lane.polls for lane in lanes.values()], shared.refresher.wake)
        pipeline = Pipeline(shared, lanes, polls)
        stack.enter_context(events.heard_by(_passing_on(pipeline)))
        yield pipeline


def _passing_on(pipeline: Pipeline) -> Listener:
    """The way of the work: what is stored is the watcher's, what is processed the refresher's, and so on.

    And who waits for a store that failed hears of every listing that works: there is one every few seconds.
    """
    lanes, refresher = pipeline.lanes, pipeline.shared.refresher
    failing: set[StoreOperation] = set()

    def listen(event: Event) -> None:
        match event:
            case SnapshotStored():
                lanes[event.system_id].watcher.announce(event)
            case RunFinished() if event.written:
                refresher.wake(event)
            case LakeReconciled():
                refresher.wake()
            case DatabasePublished():
                for exporter in pipeline.shared.exporters:
                    exporter.wake()
            case StoreAnswered():
                _note_answer(pipeline, event, failing)

    return listen


def _note_answer(pipeline: Pipeline, event: StoreAnswered, failing: set[StoreOperation]) -> None:
    """Tell the lanes when a kind of request works again that was `failing`, and of each listing that works."""
    # That there is no such object is an answer, but not to a PUT.
    if event.outcome not in ("ok", "not_found") or (event.outcome, event.operation) == ("not_found", "put"):
        failing.add(event.operation)
    elif event.outcome == "ok" and event.operation in failing:
        failing.remove(event.operation)
        for lane in pipeline.lanes.values():
            lane.watcher.store_works_again()
    if event.operation == "list" and event.outcome == "ok":
        for lane in pipeline.lanes.values():
            lane.delivery.store_answers()
        pipeline.shared.refresher.store_answers()
