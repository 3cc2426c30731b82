"""The bounded queue between the watchers and the processors."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from bikeflow.core.model import Partition, PartitionJob


class PartitionQueue:
    """At most one job of a partition waits, and at most one is in flight.

    A job for a partition that waits already joins it (the ledger knows the files). One for a partition in flight waits
    until that run has ended, so that two runs never write the same segment at once.

    It is fair: systems take turns, and each has room for `size` waiting jobs, so that the backlog of one system delays
    no other.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: dict[Partition, PartitionJob] = {}
        self._waiting_of: Counter[str] = Counter()
        """How many of them each system has."""
        self._in_flight: set[Partition] = set()
        self._turns: Counter[str] = Counter()
        """When each system last had its turn: the number of jobs handed out until then."""
        self._changed = asyncio.Condition()
        self._closed = False
        self._moved_at = time.monotonic()
        self._taken = 0
        self.finished = 0
        """Jobs that have ended, however they did."""

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Number of jobs that a processor has taken and not yet finished."""
        return len(self._in_flight)

    def full(self, system_id: str) -> bool:
        """Whether a job for another partition of this system has to wait outside."""
        return self._waiting_of[system_id] >= self._size

    @property
    def stalled_seconds(self) -> float:
        """For how long no job has ended although there are some; 0 where there is none."""
        return time.monotonic() - self._moved_at if self._waiting or self._in_flight else 0.0

    async def put(self, job: PartitionJob) -> None:
        """Add a job, or join it to its waiting twin; waits while the system's room is full. Dropped once closed."""
        partition = job.partition
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._closed or partition in self._waiting or not self.full(partition.system_id)
            )
            if not self._closed:
                if not self._waiting and not self._in_flight:
                    self._moved_at = time.monotonic()
                if partition not in self._waiting:
                    self._waiting[partition] = job
                    self._waiting_of[partition.system_id] += 1
                self._changed.notify_all()

    async def get(self) -> PartitionJob | None:
        """The next job whose partition is not in flight; None when the queue is closed and holds none any more.

        It is the oldest of the system whose last turn is longest ago.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._next() is not None or (self._closed and not self._waiting))
            job = self._next()
            if job is None:
                return None
            self._taken += 1
            self._turns[job.partition.system_id] = self._taken
            del self._waiting[job.partition]
            self._waiting_of[job.partition.system_id] -= 1
            self._in_flight.add(job.partition)
            self._changed.notify_all()
            return job

    async def done(self, job: PartitionJob) -> None:
        """The processor has finished the job, however it ended."""
        async with self._changed:
            self._in_flight.discard(job.partition)
            self.finished += 1
            self._moved_at = time.monotonic()
            self._changed.notify_all()

    async def join(self) -> None:
        """Wait until no job waits or is in flight."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting and not self._in_flight)

    async def close(self) -> None:
        """Take no more jobs; what waits is still handed out."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def drop_waiting(self) -> None:
        """Forget the jobs that no processor has taken."""
        async with self._changed:
            self._waiting.clear()
            self._waiting_of.clear()
            self._changed.notify_all()

    def _next(self) -> PartitionJob | None:
        ready = (job for partition, job in self._waiting.items() if partition not in self._in_flight)
        return min(ready, key=lambda job: self._turns[job.partition.system_id], default=None)
