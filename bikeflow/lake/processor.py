"""The processor role: takes partition jobs from the queue and has their dirty segments written.

N of them run side by side. Here is the job boundary: whatever goes wrong in a job ends in one failed run, and the raw
files stay dirty for the next one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from structlog.contextvars import bound_contextvars

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import (
    UTC,
    Partition,
    PartitionJob,
    Run,
    RunFinished,
    SchemaDrifted,
    SegmentObject,
)
from bikeflow.lake.queue import PartitionQueue
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.log import get_logger, new_trace_id, traced
from bikeflow.segments.builder import Built, RawFileChanged, RawFilesVanished
from bikeflow.segments.engines import Engine
from bikeflow.segments.tally import Tally

log = get_logger()


@dataclass(slots=True)
class _Progress:
    """What a run has done so far."""

    run_id: str
    written: list[Built] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    traces: set[str] = field(default_factory=set)


class Place(Protocol):
    """Keeps an enhanced file on this machine."""

    def __call__(self, item: SegmentObject, data: bytes, *, stored: bool) -> None:
        """Keep the file's content; `stored` tells whether the store has it, too."""


def _nowhere(item: SegmentObject, data: bytes, *, stored: bool) -> None:
    """Keep nothing."""


class Processor:
    """Works off the queue: as many tasks as there are workers `run` it side by side.

    `place` is given each enhanced file that was built by this process.
    """

    def __init__(
        self,
        queue: PartitionQueue,
        ledger: Ledger,
        engine: Engine,
        emit: Callable[[RunFinished | SchemaDrifted], None],
        place: Place = _nowhere,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._engine = engine
        self._emit = emit
        self._place = place
        self._drifted: set[str] = set()
        self.files_parsed = 0
        """Raw files parsed for this process, for progress."""

    async def run(self) -> None:
        """Take jobs until the queue is closed and empty."""
        while (job := await self._queue.get()) is not None:
            try:
                await self.process(job)
            finally:
                await self._queue.done(job)

    async def process(self, job: PartitionJob) -> Run | None:
        """Write all dirty segments of a partition; None where there was none."""
        started_at, started = dt.datetime.now(UTC), time.monotonic()
        progress = _Progress(run_id=uuid.uuid4().hex[:16])
        with bound_contextvars(run_id=progress.run_id, **_named(job.partition)):
            try:
                await self._write_segments(job, progress)
            except BikeflowError as error:
                progress.errors.append(str(error))
            except Exception as error:  # the job boundary: a bug costs one run, not the service
                progress.errors.append(f"{type(error).__name__}: {error}")
                log.error("run_crashed", exc_info=error)
            if not progress.written and not progress.errors:
                return None
            run = _finished(job, progress, started_at)
            await self._record(run)
            _report(run, time.monotonic() - started)
        counts = Tally()
        for built in progress.written:
            counts.add(built.tally)
        written = tuple(built.written for built in progress.written)
        self._emit(RunFinished(run, started - job.queued_at, counts.rejected, counts.flagged, written))
        return run

    async def _record(self, run: Run) -> None:
        try:
            await asyncio.to_thread(self._ledger.runs.record, run)
        except BikeflowError as error:  # its segments are as they are: nothing else depends on it
            log.error("run_not_recorded", error=str(error))

    async def _write_segments(self, job: PartitionJob, progress: _Progress) -> None:
        files = self._ledger.systems[job.partition.system_id].files
        for work in await asyncio.to_thread(files.dirty_segments, job.partition.day):
            try:
                progress.written.append(await self.write(work))
                progress.traces.update(work.traces.values())
            except BikeflowError as error:
                # One bad segment costs neither its neighbours nor other partitions.
                progress.errors.append(f"segment {work.segment.start:%H:%M}-{work.segment.end:%H:%M}: {error}")

    async def write(self, work: SegmentWork) -> Built:
        """Bring a segment up to date, in the store unless it may wait; raises what the engine raises.

        The ledger is told last: a crash anywhere leaves the segment dirty, and the next run writes the same objects
        again.
        """
        try:
            built = await self._engine.build(work, self._count)
        except RawFileChanged as error:
            if error.current is not None:
                files = self._ledger.systems[work.segment.partition.system_id].files
                await asyncio.to_thread(files.observe, [(error.current, new_trace_id())])
            raise
        except RawFilesVanished:
            self._ledger.systems[work.segment.partition.system_id].missing.suspected = True
            raise
        self._report_drift(work.segment.partition.system_id, built.tally.drifted)
        await asyncio.to_thread(self._take_note, work, built)
        return replace(built, data=None)

    def _count(self, files: int) -> None:
        self.files_parsed += files

    def _take_note(self, work: SegmentWork, built: Built) -> None:
        files = self._ledger.systems[work.segment.partition.system_id].files
        if built.written.object is not None and built.data is not None:
            self._place(built.written.object, built.data, stored=built.objects is not None)
        if built.vanished:
            files.forget(built.vanished)
        if built.objects is not None:
            files.segment_written(work, built.objects, built.results)
        elif built.written.object is not None:
            files.unwritten.built(work.segment, work.wanted, built.written.object, built.results)

    def _report_drift(self, system_id: str, drifted: Mapping[str, tuple[str, ...]]) -> None:
        """Unknown columns are logged once, not with every snapshot."""
        for key, columns in drifted.items():
            self._emit(SchemaDrifted(system_id, columns))
            new = sorted(set(columns) - self._drifted)
            if new:
                self._drifted.update(new)
                log.warning("schema_drifted", key=key, unknown_columns=", ".join(new))


def _named(partition: Partition) -> dict[str, str]:
    """The fields that name a partition in a log line."""
    return {"system": partition.system_id, "partition": partition.day.isoformat()}


def _finished(job: PartitionJob, progress: _Progress, started_at: dt.datetime) -> Run:
    parsed = [record for built in progress.written for record in built.parsed]
    return Run(
        run_id=progress.run_id,
        partition=job.partition,
        started_at=started_at,
        finished_at=dt.datetime.now(UTC),
        outcome="failed" if progress.errors else "done",
        segments=sum(built.objects is not None for built in progress.written),
        files=len(parsed),
        lines=sum(record.lines for record in parsed),
        rows=sum(record.rows for record in parsed),
        rejected=sum(record.rejected for record in parsed),
        error="; ".join(progress.errors) or None,
        traces=tuple(sorted(progress.traces)),
    )


def _report(run: Run, seconds: float) -> None:
    tell = log.error if run.outcome == "failed" else log.info
    tell(
        "processed",
        **{name: getattr(run, name) for name in ("outcome", "segments", "files", "lines", "rows", "rejected")},
        duration_seconds=round(seconds, 3),
        **traced(run.traces),
        **({"error": run.error} if run.error else {}),
    )
