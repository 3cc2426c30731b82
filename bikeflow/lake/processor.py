"""The processor role: takes partition jobs from the queue and has their dirty segments written.

N of them run side by side. Here is the job boundary: whatever goes wrong in a job ends in one failed run, and the raw
files stay dirty for the next one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from structlog.contextvars import bound_contextvars

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import UTC, PartitionJob, PartitionProcessed, Run, RunFinished
from bikeflow.lake.queue import PartitionQueue
from bikeflow.lake.writer import SegmentWriter
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.log import get_logger, traced
from bikeflow.segments.builder import Built
from bikeflow.segments.tally import Tally

RETRY_INITIAL_SECONDS = 5.0
RETRY_MAX_SECONDS = 900.0
log = get_logger()


@dataclass(slots=True)
class _Progress:
    """What a run has done so far."""

    run_id: str
    written: list[Built] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    traces: set[str] = field(default_factory=set)


class Processor:
    """Works off the queue until it is closed and empty."""

    def __init__(
        self,
        queue: PartitionQueue,
        ledger: Ledger,
        writer: SegmentWriter,
        emit: Callable[[RunFinished | PartitionProcessed], None],
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._writer = writer
        self._emit = emit

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
        with bound_contextvars(run_id=progress.run_id, partition=str(job.partition)):
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
        counts = _tally(progress)
        self._emit(RunFinished(run, started - job.queued_at, counts.rejected, counts.flagged))
        if progress.written:
            self._emit(PartitionProcessed(job.partition, run.run_id, run.traces))
        return run

    async def _record(self, run: Run) -> None:
        try:
            await asyncio.to_thread(
                self._ledger.runs.record,
                run,
                retry_initial_seconds=RETRY_INITIAL_SECONDS,
                retry_max_seconds=RETRY_MAX_SECONDS,
            )
        except BikeflowError as error:  # its segments are as they are: nothing else depends on it
            log.error("run_not_recorded", error=str(error))

    async def _write_segments(self, job: PartitionJob, progress: _Progress) -> None:
        for work in await asyncio.to_thread(self._ledger.files.dirty_segments, job.partition):
            try:
                progress.written.append(await self._writer.write(work))
                progress.traces.update(work.traces)
            except BikeflowError as error:
                # One bad segment costs neither its neighbours nor other partitions.
                progress.errors.append(_reason(work, error))


def _reason(work: SegmentWork, error: BikeflowError) -> str:
    return f"segment {work.segment.start:%H:%M}-{work.segment.end:%H:%M}: {error}"


def _tally(progress: _Progress) -> Tally:
    counts = Tally()
    for item in progress.written:
        counts.add(item.tally)
    return counts


def _finished(job: PartitionJob, progress: _Progress, started_at: dt.datetime) -> Run:
    written = progress.written
    return Run(
        run_id=progress.run_id,
        partition=job.partition,
        started_at=started_at,
        finished_at=dt.datetime.now(UTC),
        outcome="failed" if progress.errors else "done",
        segments=len(written),
        files=sum(item.files for item in written),
        lines=sum(item.lines for item in written),
        rows=sum(item.rows for item in written),
        rejected=sum(item.rejected for item in written),
        error="; ".join(progress.errors) or None,
        traces=tuple(sorted(progress.traces)),
    )


def _report(run: Run, seconds: float) -> None:
    tell = log.error if run.outcome == "failed" else log.info
    tell(
        "processed",
        outcome=run.outcome,
        segments=run.segments,
        files=run.files,
        lines=run.lines,
        rows=run.rows,
        rejected=run.rejected,
        duration_seconds=round(seconds, 3),
        **traced(run.traces),
        **({"error": run.error} if run.error else {}),
    )
